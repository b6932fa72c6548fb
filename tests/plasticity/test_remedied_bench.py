"""Remedies as arms of the bench: counts over time, records, and what cannot work."""

from pathlib import Path

import pytest

from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import RecordError, to_dict
from kanbatsu.plasticity import classifier
from kanbatsu.plasticity.bench import bench_from_dict, load_bench
from kanbatsu.plasticity.config import label_run_from_dict
from kanbatsu.plasticity.train import train_side_by_side

STREAM = {
    "tasks": 3,
    "steps": 4,
    "inputs": 32,
    "features": 5,
    "batch_size": 8,
    "window": 2,
}
STUDIES = Path(__file__).parents[2] / "studies"


def bench(remedy, seeds=1, **shape):
    arm = {"classifier": {"width": 8, "blocks": 2} | shape, "remedy": remedy}
    return bench_from_dict({"question": "?", "seeds": seeds, "stream": STREAM, "arm": {"a": arm}})


def trained(tmp_path, study):
    (group,) = study.groups()
    folders = [RunFolder(tmp_path / planned.run_id) for planned in group]
    train_side_by_side([planned.run for planned in group], folders)
    lines = [list(folder.metrics()) for folder in folders]
    kept = [
        [line["networks"]["classifier"]["kept"] for line in own if line["kind"] == "networks"]
        for own in lines
    ]
    tallies = [
        [
            {k: v for k, v in line["metrics"].items() if "/remedy/" in k}
            for line in own
            if line["kind"] == "probe"
        ]
        for own in lines
    ]
    return kept, tallies, folders


def test_gradual_pruning_ends_at_a_static_arm_beside_recycled_units(tmp_path):
    gradual = {"kind": "gradual", "begin": 2, "end": 9, "every": 2, "sparsity": 0.5}
    redo = {"kind": "redo", "every": 3, "threshold": 0.5, "samples": 1}
    study = bench([gradual, redo, {"kind": "l2_init", "strength": 0.01}], norm="none")
    kept, tallies, (folder,) = trained(tmp_path, study)
    config = study.arms["a"].classifier
    total, static = (
        classifier.plan(type(config)(width=8, blocks=2, sparsity=s), study.stream)[0].kept
        for s in (0.0, 0.5)
    )
    (own,) = kept
    assert own[0] == total
    assert own == sorted(own, reverse=True)
    assert own[-1] == static
    last = tallies[0][-1]
    assert last["classifier/remedy/gradual/removed_weights"] == total - static
    assert last["classifier/remedy/gradual/times"] == 4  # at 4, 6, 8 and 9
    assert last["classifier/remedy/redo/times"] == 3  # at 3, 6 and 9
    run = label_run_from_dict(folder.read_config())
    assert [remedy.kind for remedy in run.remedy] == ["gradual", "redo", "l2_init"]
    assert to_dict(run)["remedy"] == [to_dict(remedy) for remedy in study.arms["a"].remedy]


def test_rigl_and_resets_keep_the_counts_of_the_static_arm(tmp_path):
    remedies = [{"kind": "rigl", "every": 3}, {"kind": "reset", "every": 5, "mask": "new"}]
    study = bench([*remedies, {"kind": "weight_decay", "rate": 0.1}], seeds=2, sparsity=0.5)
    kept, tallies, _ = trained(tmp_path, study)
    static = classifier.plan(study.arms["a"].classifier, study.stream)[0].kept
    assert kept == [[static], [static]]
    for own in tallies:
        assert [t["classifier/remedy/rigl/times"] for t in own] == [1, 2, 3]  # 3, 6, 9
        assert [t["classifier/remedy/reset/times"] for t in own] == [0, 1, 2]  # 5, 10
        assert own[-1]["classifier/remedy/rigl/moved_weights"] > 0


@pytest.mark.parametrize(
    ("remedy", "shape", "message"),
    [
        ({"kind": "rigl", "every": 3}, {}, "arm.a: remedy rigl moves the masks of sparse networks"),
        ({"kind": "reset", "every": 12}, {}, "arm.a: remedy reset would never act: every = 12"),
        (
            {"kind": "reset", "every": 3, "of": "actor"},
            {},
            "remedy reset is for the actor, which classifier has not; its networks: classifier",
        ),
        ({"kind": "redo", "every": 3}, {"residual": True}, "redo needs residual = false"),
        ({"kind": "redu", "every": 3}, {}, "unknown remedy 'redu'. Did you mean 'redo'?"),
        (
            {"kind": "gradual", "begin": 1, "end": 9, "every": 2, "sparsity": 0.99},
            {},
            "sparsity 0.99 would keep",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(remedy, shape, message):
    with pytest.raises(RecordError) as refused:
        bench(remedy, **shape)
    assert message in str(refused.value)


def test_the_study_of_remedies_has_three_settings_of_each():
    study = load_bench(STUDIES / "plasticity-remedies.toml")
    assert min(study.seeds) >= 4000
    doses = {}
    for arm in study.arms.values():
        for remedy in arm.remedy:
            own = doses.setdefault((remedy.kind, arm.classifier.sparsity > 0), set())
            own.add(remedy)
    assert {len(own) for own in doses.values()} == {3}
    assert {kind for kind, sparse in doses if not sparse} >= {"reset", "redo", "l2_init", "gradual"}
    assert {kind for kind, sparse in doses if sparse} >= {"set", "rigl", "reset", "redo", "l2_init"}
