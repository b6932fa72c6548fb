"""Studies and plans whose arms are trained by a function of the user's."""

from typing import Any

import pytest

from kanbatsu.files.tables import RecordError, canonical_hash, to_dict
from kanbatsu.poc.plan import poc_from_dict
from kanbatsu.study.file import study_from_dict
from kanbatsu.study.plan import study_record

TABLE = {
    "question": "?",
    "train": "mine:train",
    "tasks": ["plant"],
    "env_steps": 100,
    "seeds": 2,
    "control": "dense",
    "learning_rate": 0.1,
    "arm": {"dense": {}, "sparse": {"sparsity": 0.8}},
}


def settings(table: dict[str, Any]) -> dict[str, Any]:
    arms: Any = study_from_dict(table).arms
    return {name: arm.config.settings for name, arm in arms.items()}


def test_arms_have_the_settings_of_their_function():
    assert settings(TABLE) == {
        "dense": {"learning_rate": 0.1},
        "sparse": {"learning_rate": 0.1, "sparsity": 0.8},
    }
    runs = study_from_dict(TABLE).runs()
    assert len({run.run_id for run in runs}) == 4
    record = study_record(study_from_dict(TABLE), "")
    assert record["arms"]["dense"]["agent"] == "external"
    assert runs[0].run_id.endswith(canonical_hash(to_dict(runs[0].run))[:8])


def test_one_arm_of_ones_own_beside_others():
    arms = {"dense": {"critic": {"width": 8}}, "mine": {"train": "mine:train", "gain": 2}}
    table = {key: x for key, x in TABLE.items() if key not in ("train", "learning_rate")}
    study = study_from_dict(table | {"arm": arms, "actor": {"width": 8}, "tasks": ["gym/Ant-v5"]})
    own: Any = study.arms["mine"].config
    assert (own.settings, study.arms["dense"].agent) == ({"gain": 2}, "sac")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agent": "sac"}, "arm.sparse.agent: is for trainings by"),
        ({"match": {"to": "dense", "what": "kept"}}, "arm.sparse.match: is for trainings by"),
        ({"remedy": {"kind": "reset"}}, "arm.sparse.remedy: is for trainings by"),
    ],
)
def test_what_only_our_training_understands_is_refused(changes, message):
    with pytest.raises(RecordError, match=message):
        study_from_dict(TABLE | {"arm": {"dense": {}, "sparse": changes}})


def test_nothing_can_be_matched_to_a_function():
    arms = {"dense": {}, "ours": {"train": {}, "match": {"to": "dense", "what": "flops"}}}
    table = {key: x for key, x in TABLE.items() if key != "learning_rate"}
    with pytest.raises(RecordError, match="cannot be measured"):
        study_from_dict(table | {"tasks": ["gym/Pendulum-v1"], "arm": arms})


def test_a_plan_tries_sparsities_of_a_function():
    table = {key: x for key, x in TABLE.items() if key != "seeds"} | {"arm": {"dense": {}}}
    table |= {"search": {"sparsities": [0.5, 0.9]}, "budget": {"hours": 1}}
    poc = poc_from_dict(table)
    arms: Any = poc.study.arms
    assert {name: arm.config.settings.get("sparsity") for name, arm in arms.items()} == {
        "dense": None,
        "pruned-s50": 0.5,
        "pruned-s90": 0.9,
    }
    with pytest.raises(RecordError, match=r"search\.match: cannot be solved"):
        poc_from_dict(table | {"search": {"match": "kept", "widths": [8]}})
