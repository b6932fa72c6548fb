"""Choosing a sparsity: the page is that of the stored data, and pairs differ in networks alone."""

from collections.abc import Callable
from pathlib import Path

from kanbatsu.report.archive import archive
from kanbatsu.report.evidence import choosing
from kanbatsu.report.evidence.stored import read_all
from kanbatsu.report.results import read_study

ROOT = Path(__file__).parents[2]


def test_the_page_is_that_of_the_stored_data() -> None:
    written = (ROOT / "docs" / "choosing-a-sparsity.md").read_text(encoding="utf-8")
    assert written == choosing.render(read_all(ROOT / "evidence")), "run `make evidence`"


def test_a_sparse_arm_meets_the_dense_one_of_its_size(make_study: Callable, tmp_path: Path) -> None:
    (pair,) = choosing.same_size(read_study(make_study(tmp_path).path))
    assert (pair.sparse.name, pair.dense.name) == ("sparse-256", "dense-256")


def test_a_sparse_arm_meets_the_dense_one_of_its_weights(
    make_study: Callable, tmp_path: Path
) -> None:
    # Planted: sparse-256 keeps 8,400, dense-64 has 9,000 (a tenth away at most), dense-256 140,000.
    (pair,) = choosing.same_weights(read_study(make_study(tmp_path).path))
    assert (pair.sparse.name, pair.dense.name) == ("sparse-256", "dense-64")


def test_a_row_holds_what_the_runs_hold(make_study: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "evidence" / "thinning"
    make_study(tmp_path / "out")
    archive(tmp_path / "out", folder)
    (folder / "notes.toml").write_text('title = "t"\ndesign = "d"\nlimits = ["l"]\n')
    text = choosing.render(read_all(tmp_path / "evidence"))
    # Planted: 110 to 114 and 120 to 124; Welch's interval of two times five runs, 10 -+ 2.31 at
    # 95 % and 10 -+ 2.75 at 97.5 %, for the study's control is compared with two arms.
    assert text.count("#### dmc/walker-walk") == 2  # its twin in size, its twin in weights
    assert text.count("Of 1 comparison, the sparse network returned more in 1 and less in 0;") == 2
    assert "| SAC, actor SimBa 32 × 1, dense; critic SimBa 256 × 2, dense |" in text
    assert "| critic SimBa 256 × 2, 94% removed | 5 and 5 | 112 | 122 |" in text
    assert "| 5 and 5 | 112 | 122 | +10.0 [+7.25, +12.8] | higher | 0.12, 0.12 |" in text


def test_a_study_without_twins_says_nothing(make_study: Callable, tmp_path: Path) -> None:
    arms = {
        "dense": {"width": 64, "sparsity": 0.0, "kept": 5, "total": 5},
        "wide": {"width": 256, "sparsity": 0.9, "kept": 6, "total": 50},
    }
    study = make_study(tmp_path, arms=arms, control="dense", seeds=(0, 1))
    assert choosing.same_weights(read_study(study.path)) == []  # 6 is a fifth more than 5
    assert choosing.same_size(read_study(study.path)) == []
