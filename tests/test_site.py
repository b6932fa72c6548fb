"""The site holds what is public: every name has its place, notebooks are shown as they are."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
API = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
NOTEBOOKS = sorted(
    path.stem for path in (ROOT / "notebooks").glob("*.py") if path.stem != "execute"
)


def public() -> dict[str, list[str]]:
    """Return the names in `__all__` of each package."""
    found = {}
    for path in (ROOT / "kanbatsu").rglob("__init__.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                package = ".".join(path.parent.relative_to(ROOT).parts)
                found[package] = ast.literal_eval(node.value)
    return found


PUBLIC = public()


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_is_in_the_reference(package):
    shown = set(re.findall(r"^::: (\S+)$", API, re.MULTILINE))
    missing = {f"{package}.{name}" for name in PUBLIC[package]} - shown
    assert package in shown or missing == set()


def test_the_reference_names_nothing_that_is_not_there():
    for name in re.findall(r"^::: (\S+)$", API, re.MULTILINE):
        package, _, last = name.rpartition(".")
        path = ROOT / name.replace(".", "/")
        file = ROOT / f"{package.replace('.', '/')}.py"
        assert (
            (path / "__init__.py").exists()
            or last in PUBLIC.get(package, [])
            or re.search(rf"^(class|def) {last}\b", file.read_text(), re.MULTILINE)
        ), name


@pytest.mark.parametrize("requirements", ["docs", "notebooks"])
def test_requirements_are_names_with_versions(requirements):
    lines = (ROOT / "requirements" / f"{requirements}.txt").read_text().splitlines()
    assert len(lines) > 5
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[\w.+]+", line)] == []


def code_of(script: str) -> list[str]:
    """Return the code of a script's cells."""
    cells = re.split(r"^# %%(.*)\n", script, flags=re.MULTILINE)[1:]
    pairs = zip(cells[::2], cells[1::2], strict=True)
    return [code.strip() for kind, code in pairs if "markdown" not in kind]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_page_of_a_notebook_shows_the_script_as_it_is(name):
    page = (ROOT / "notebooks" / f"{name}.md").read_text()
    shown = re.findall(r"^```python\n(.*?)\n```$", page, re.DOTALL | re.MULTILINE)
    assert shown == code_of((ROOT / "notebooks" / f"{name}.py").read_text())
    for picture in re.findall(r"!\[[^]]*\]\((\S+)\)", page):
        assert (ROOT / "notebooks" / picture).exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_becomes_a_page(name, tmp_path):
    for needed in ("jupytext", "nbclient", "ipykernel", "stable_baselines3"):
        pytest.importorskip(needed)
    spec = importlib.util.spec_from_file_location("execute", ROOT / "notebooks" / "execute.py")
    execute = importlib.util.module_from_spec(spec)
    sys.modules["execute"] = execute
    spec.loader.exec_module(execute)
    notebook = execute.execute(execute.SCRIPTS[name])
    page = execute.page(notebook, name, tmp_path)
    stored = (ROOT / "notebooks" / f"{name}.md").read_text()
    assert page.count("```text") == stored.count("```text")
    assert {path.name for path in tmp_path.iterdir()} == {
        path.name for path in (ROOT / "notebooks").glob(f"{name}-*.*")
    }
