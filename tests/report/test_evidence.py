"""Evidence pages say what the stored data say, and no more."""

import json
import zlib
from pathlib import Path

import pytest

from kanbatsu.files.disk import finite
from kanbatsu.files.store import StudyFolder
from kanbatsu.report.archive import archive
from kanbatsu.report.evidence import pages, speeds
from kanbatsu.report.evidence.__main__ import main
from kanbatsu.report.evidence.stored import read_all
from kanbatsu.report.results import read_study
from kanbatsu.report.rivals import rivals
from kanbatsu.report.summary import summarise

ROOT = Path(__file__).parents[2]
STORED = sorted(path.parent for path in (ROOT / "evidence").glob("*/study.json"))
NOTES = """
title = "Thinning"
design = "Fixed before."
limits = ["Other tasks."]

[[published]]
arm = "dense-64"
task = "dmc/walker-walk"
env_steps = 1000
returns = [101.0, 102.0, 103.0]
source = "planted"
"""


def test_pages_are_those_of_the_stored_data():
    written = {path.name: path.read_text() for path in (ROOT / "docs" / "evidence").glob("*.md")}
    assert written == pages.render(read_all(ROOT / "evidence")), "run `make evidence`"


@pytest.mark.parametrize(
    ("page", "words"), [("README.md", "{} beside {} and {}"), ("README.ja.md", "{}に対し{}と{}")]
)
def test_the_readme_quotes_stored_studies(page, words):
    readme = (ROOT / page).read_text()
    arms = {arm.name: arm for arm in read_study(ROOT / "evidence" / "unnormalised").arms}
    names = ("wide-sparse", "wide", "narrow")
    means = [f"{arms[name].finals('dmc/cheetah-run').mean():.0f}" for name in names]
    assert words.format(*means) in readme
    found = rivals(read_study(ROOT / "evidence" / "plasticity-remedies"))
    (on,) = found["tasks"].values()
    for name in ("masked", "dense"):
        assert f"{on[name]['mean']:.2f}".lstrip("0") in readme


def test_the_picture_of_speeds_is_that_of_the_stored_results():
    drawn = (ROOT / "docs" / "images" / "speed.svg").read_text()
    works = speeds.read(ROOT / "benchmarks" / "results")
    assert drawn == speeds.draw(works), "run `make evidence`"
    for work in works:
        for ratio in work.ratios.values():
            assert f">{ratio:.1f}<" in drawn, work.name


@pytest.mark.parametrize("folder", STORED, ids=lambda path: path.name)
def test_a_stored_study_is_whole_and_small(folder):
    stored = json.loads((folder / "summary.json").read_text())
    assert stored == json.loads(json.dumps(finite(summarise(read_study(folder)))))
    names = {path.name for path in folder.iterdir()}
    assert names == {"study.toml", "study.json", "notes.toml", "summary.json", "timing.json"} | {
        "runs.jsonl"
    }
    # What a clone downloads.
    assert sum(len(zlib.compress(path.read_bytes())) for path in folder.iterdir()) < 2**19
    command = json.loads((folder / "study.json").read_text())["command"]
    assert " /" not in command, "a place on one machine"


@pytest.fixture
def evidence(make_study, tmp_path):
    make_study(tmp_path / "out")
    archive(tmp_path / "out", tmp_path / "evidence" / "thinning")
    (tmp_path / "evidence" / "thinning" / "notes.toml").write_text(NOTES)
    return tmp_path / "evidence"


def test_numbers_are_computed_from_the_runs(evidence):
    # Planted: returns 100 to 104, 110 to 114, 120 to 124, each of variance 2.5. With 8 degrees of
    # freedom and two comparisons the interval reaches 2.752 * sqrt(2 * 2.5 / 5) = 2.75; alone,
    # against three runs of variance 1, with 5.88 degrees, 2.459 * sqrt(2.5 / 5 + 1 / 3) = 2.24.
    made = pages.render(read_all(evidence))
    page = made["thinning.md"]
    assert "| dense-256 | 5 | 112 ± 1.58 | +10.0 [+7.25, +12.8] | 1.00 [" in page
    assert "15 of 15 runs finished" in page
    assert "| mean return at | 0 | " in page
    assert (
        "| dense-64, dmc/walker-walk, 1k | 102 ± 1.58 | 102 ± 1.00 | +0.00 [-2.24, +2.24], yes"
        in page
    )
    assert "- dmc/walker-walk: higher return with **sparse-256** than with dense-64: +20.0" in page
    assert "- dmc/walker-walk: higher return with **sparse-256**" in made["README.md"]
    assert (
        "| [thinning](thinning.md) | SAC | dmc/walker-walk | 1,000 | 5 | dense-64 | 2 | 0 | 0 |"
        in made["README.md"]
    )


@pytest.mark.parametrize(
    ("shift", "sentence"),
    [
        (
            0.0,
            "no difference can be seen between **sparse-256** and dense-64: +0.00 [-2.75, +2.75]",
        ),
        (-9.0, "lower return with **sparse-256** than with dense-64: -9.00 [-11.8, -6.25]"),
    ],
)
def test_a_sentence_claims_no_more_than_its_interval(make_study, tmp_path, shift, sentence):
    def returns(arm, task, seed, share):
        return share * (100.0 + seed + (shift if arm == "sparse-256" else 0.0))

    make_study(tmp_path / "out", returns=returns)
    assert any(sentence in line for line in pages.sentences(read_study(tmp_path / "out")))


def test_a_study_without_a_control_compares_nothing(make_study, tmp_path):
    make_study(tmp_path / "out", control=None)
    said = list(pages.sentences(read_study(tmp_path / "out")))
    assert "dmc/walker-walk: **sparse-256** returns 122 ± 1.58, 5 seeds." in said
    assert len(said) == 3


def test_one_finished_run_decides_nothing(evidence):
    folder = StudyFolder(evidence / "thinning")
    gone = [f"sparse-256-dmc-walker-walk-{seed}" for seed in range(1, 5)]
    folder.write_archive({name: it for name, it in folder.archive.items() if name not in gone})
    made = pages.render(read_all(evidence))["thinning.md"]
    assert "**sparse-256** against dense-64 is not decided: too few runs have finished." in made
    assert "11 of 15 runs finished" in made


def test_pages_and_pictures_of_studies_that_are_gone_go_too(evidence):
    docs = evidence.parent / "docs"
    (docs / "evidence").mkdir(parents=True)
    (docs / "evidence" / "gone.svg").write_text("<svg/>")
    main(evidence.parent)
    names = {path.name for path in (docs / "evidence").iterdir()}
    assert names == {"README.md", "thinning.md", "thinning.svg"}
    assert "# Choosing a sparsity" in (docs / "choosing-a-sparsity.md").read_text()
