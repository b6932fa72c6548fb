"""Write docs/evidence, docs/choosing-a-sparsity.md, docs/why.md and docs/images/speed.svg.

    make evidence

All of it comes from the studies in evidence and from the results of benchmarks.
A stored study is a folder as `kanbatsu archive` leaves it, with the file that it was run from
(study.toml) and notes.toml: what a reader should know that data cannot say.
"""

from __future__ import annotations

from pathlib import Path

from kanbatsu.report.evidence import choosing, pages, pictures, speeds, why
from kanbatsu.report.evidence.stored import read_all


def main(root: Path = Path()) -> None:
    """Write every page and picture; remove those whose study is gone."""
    stored, docs = read_all(root / "evidence"), root / "docs"
    written = pages.render(stored)
    written |= {f"{evidence.name}.svg": pictures.draw(evidence) for evidence in stored}
    (docs / "evidence").mkdir(parents=True, exist_ok=True)
    for path in (docs / "evidence").iterdir():
        path.unlink()
    for name, text in written.items():
        (docs / "evidence" / name).write_text(text)
    (docs / "choosing-a-sparsity.md").write_text(choosing.render(stored))
    (docs / "why.md").write_text(why.render(stored))
    if (results := root / "benchmarks" / "results").exists():
        (docs / "images" / "speed.svg").write_text(speeds.draw(speeds.read(results)))


if __name__ == "__main__":
    main()
