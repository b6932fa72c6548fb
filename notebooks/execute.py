"""Run the notebooks and write the pages that show them, with what they printed and drew.

python notebooks/execute.py [NAME ...]
"""

import base64
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
from nbclient import NotebookClient

HERE = Path(__file__).parent
SCRIPTS = {path.stem: path for path in sorted(HERE.glob("*.py")) if path != Path(__file__)}
os.environ.setdefault("OMP_NUM_THREADS", "1")
# One core is enough, and two threads that wait for each other on a busy machine are not quicker.
PICTURES = {"image/svg+xml": "svg", "image/png": "png"}
"""Kinds of output that become files beside a page, the best first."""


def execute(script: Path) -> Any:
    """Run a notebook from top to bottom in an empty folder.

    Args:
        script: Script with cells.

    Returns:
        The notebook with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    notebook = jupytext.read(script)
    with tempfile.TemporaryDirectory() as folder:
        place = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    return notebook


def page(notebook: Any, name: str, folder: Path) -> str:
    """Write a notebook as Markdown, and its pictures beside it.

    Args:
        notebook: The notebook with its outputs.
        name: Name of the page; that of its pictures begins with it.
        folder: Folder of the pictures.
    """
    parts, pictures = [], 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for kind, content in map(_best, _joined(cell.outputs)):
            if kind in PICTURES:
                pictures += 1
                picture = folder / f"{name}-{pictures}.{PICTURES[kind]}"
                is_text = kind == "image/svg+xml"
                picture.write_bytes(content.encode() if is_text else base64.b64decode(content))
                parts.append(f"![Output of the cell above]({picture.name})")
            elif kind == "text/html":
                parts.append("".join(line.strip() for line in content.splitlines()))
            else:
                parts.append(f"```text\n{content.rstrip()}\n```")
    title, *rest = parts
    source = f"The script: [{name}.py]({name}.py)."
    return "\n\n".join([title, source, *rest]) + "\n"


def _joined(outputs: list[Any]) -> Iterator[dict[str, str]]:
    """Yield outputs by kind; what was printed in several pieces is one, coloured by rich or not."""
    others, printed = [], ""
    for output in outputs:
        data = output.get("data", {})
        if output.output_type == "stream":
            printed += output.text
        elif data.get("text/html", "").lstrip().startswith("<pre"):
            printed += data["text/plain"]
        elif data:
            others.append(data)
    if printed.strip():
        yield {"text/plain": printed}
    yield from others


def _best(data: dict[str, str]) -> tuple[str, str]:
    kind = next(kind for kind in (*PICTURES, "text/html", "text/plain") if kind in data)
    return kind, data[kind]


if __name__ == "__main__":
    for name in sys.argv[1:] or SCRIPTS:
        for old in HERE.glob(f"{name}-*.*"):
            old.unlink()
        notebook = execute(SCRIPTS[name])
        (HERE / f"{name}.md").write_text(page(notebook, name, HERE), encoding="utf-8")
        print(f"wrote {name}.md")
