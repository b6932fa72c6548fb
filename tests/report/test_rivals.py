"""Remedies beside a mask: doses chosen on seeds apart, and weights counted over time."""

import json

import pytest

from kanbatsu.report.counted import counted
from kanbatsu.report.page import write_report
from kanbatsu.report.results import read_study
from kanbatsu.report.rivals import rivals
from kanbatsu.report.summary import summarise

DENSE = {"width": 64, "sparsity": 0.0, "kept": 1_000, "total": 1_000}
SPARSE = {"width": 64, "sparsity": 0.9, "kept": 100, "total": 1_000}
RESETS = {f"reset-{n}": [{"kind": "reset", "every": n}] for n in (100, 1_000)}
REMEDIES = {
    **RESETS,
    **{f"sparse-{name}": remedy for name, remedy in RESETS.items()},
    "gradual": [{"kind": "gradual", "end": 500}],
    "set": [{"kind": "set", "every": 5}],
}
BASES = {"dense": 10.0, "sparse": 50.0, "gradual": 40.0, "set": 50.0}
BASES |= {
    "reset-100": 20.0,
    "reset-1000": 48.0,
    "sparse-reset-100": 30.0,
    "sparse-reset-1000": 70.0,
}


def planted(arm, task, seed, share):
    """Return one apart by seed; a reset every 100 is the best on the seeds that choose alone."""
    lucky = 100.0 if arm == "reset-100" and seed < 2 else 0.0
    return share * (BASES[arm] + lucky + seed % 3)


@pytest.fixture
def remedied(make_study, tmp_path):
    """Return the folder of a study with remedies: a mask, its dense twin, doses of each."""
    shapes = {name: SPARSE if name.startswith(("sparse", "set")) else DENSE for name in BASES}
    folder = make_study(
        tmp_path / "study", arms=shapes, seeds=tuple(range(8)), control="sparse", returns=planted
    )
    record = folder.read_study()
    for name, remedy in REMEDIES.items():
        record["arms"][name]["remedy"] = remedy
    folder.write_study(record)
    for run_id in record["arms"]["gradual"]["runs"]["dmc/walker-walk"].values():
        run = folder.run_folder(run_id)
        records = run.metrics()
        (line,) = (x for x in records if x["kind"] == "networks")
        critic = line["networks"]["critic"]
        for at, kept in ((200, 500), (500, 100)):
            networks = line["networks"] | {"critic": critic | {"kept": kept}}
            flops = line["flops_per_update"] | {"sparse": 6 * 256 * kept, "computed": 6 * 256_000}
            records.append(
                line | {"env_steps": at, "networks": networks, "flops_per_update": flops}
            )
        lines = sorted(records, key=lambda record: record["env_steps"])
        (run.path / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        run.write_status("finished")
    return folder


def test_doses_are_chosen_on_some_seeds_and_compared_on_the_others(remedied):
    found = rivals(read_study(remedied.path))
    assert (found["choosing"], found["comparing"]) == ([0, 1], [2, 3, 4, 5, 6, 7])
    assert (found["dense"], found["masked"]) == ("dense", "sparse")
    # Two remedies alone (reset, gradual), two with the mask (reset, set).
    assert found["confidence"] == {"alone": pytest.approx(0.975), "both": pytest.approx(0.975)}
    (on,) = found["tasks"].values()
    rows = {row["remedy"]: row for row in on["rows"]}
    assert set(rows) == {"reset", "gradual", "set"}
    assert rows["gradual"]["both"] is None
    assert rows["set"]["alone"] is None
    alone, both = rows["reset"]["alone"], rows["reset"]["both"]
    assert (alone["arm"], alone["dose"]) == ("reset-100", "every 100")
    assert alone["doses"] == {"reset-100": 120.5, "reset-1000": 48.5}
    assert alone["difference"] == pytest.approx(-30.0)  # without the luck of the first seeds
    assert alone["interval"][1] < 0
    assert (both["arm"], both["difference"]) == ("sparse-reset-1000", pytest.approx(20.0))
    assert both["interval"][0] > 0


def test_weights_are_counted_at_the_start_at_the_end_and_over_time(remedied):
    study = read_study(remedied.path)
    (on,) = rivals(study)["tasks"].values()
    gradual = next(row["alone"] for row in on["rows"] if row["remedy"] == "gradual")
    mean = 0.2 * 1_000 + 0.3 * 500 + 0.5 * 100
    actor = 4_000
    assert gradual["kept"] == {"first": 1_000 + actor, "end": 100 + actor, "mean": mean + actor}
    run = next(run for run in study.runs if run.arm == "gradual")
    assert run.flops_per_update["sparse"] == round(6 * 256 * mean)
    assert gradual["needed"] == pytest.approx(gradual["flops"] * mean / 1_000)
    arms = {arm["name"]: arm["networks"]["critic"] for arm in summarise(study)["arms"]}
    assert [arms["gradual"][k] for k in ("kept_first", "kept", "kept_mean")] == [1_000, 100, mean]
    assert set(arms["set"]) & {"kept_first", "kept_mean"} == set()


def test_counts_of_a_run_that_has_not_begun_are_none():
    assert counted([]) == ({}, {})


@pytest.mark.parametrize(
    ("lang", "words"),
    [
        ("en", ("What it replaces", "with the mask", "5,000 at first, 4,400 on average", "worse")),
        ("ja", ("マスクは何の代わりになるか", "マスク併用", "開始時 5,000、平均 4,400")),
    ],
)
def test_the_page_has_the_table(remedied, lang, words):
    page = write_report(remedied.path, lang).read_text()
    assert [word for word in words if word not in page] == []
    assert "remedy.reset.every" in page


def test_a_study_without_a_mask_alone_has_no_table(make_study, tmp_path):
    study = read_study(make_study(tmp_path / "plain").path)
    assert rivals(study) is None
    assert "rivals" not in summarise(study)
