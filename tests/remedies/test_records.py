"""Remedies in study files: read, told apart, and refused by name before anything runs."""

from dataclasses import replace

import jax.numpy as jnp
import pytest

from kanbatsu.agents import AGENTS
from kanbatsu.files.tables import RecordError, canonical_hash, to_dict
from kanbatsu.remedies.reading import read_remedies, remedy_in_words
from kanbatsu.remedies.records import KINDS, Gradual, Reset, Revive, RigL
from kanbatsu.remedies.treat import Clock, is_due
from kanbatsu.run.record import Run, run_from_dict
from kanbatsu.run.resolve import resolved
from kanbatsu.study.file import study_from_dict
from kanbatsu.study.plan import check_study, study_record

RESET = {"kind": "reset", "every": 200}
SPARSE = {"critic": {"width": 8, "blocks": 1, "sparsity": 0.5}, "actor": {"width": 8, "blocks": 1}}
REPLAY = {"task": "jax/pendulum", "agent": "sac", "config": SPARSE}
ROLLOUT = {
    "task": "jax/cartpole",
    "agent": "pqn",
    "config": {"critic": {"width": 8, "sparsity": 0.5}, "minibatches": 1},
}
PLAIN = "3dd6e97f1183ebc5e9fe9110cd7af27de58e6da12061e1da299f00e3ca593d21"
"""Hash of a run's record, taken before there were remedies."""

STREAM = {
    "task": "jax/cartpole",
    "agent": "stream_q",
    "config": {"critic": {"width": 8, "sparsity": 0.5}},
}


def study(remedy, like=REPLAY, env_steps=1_000, **config):
    table = {"question": "?", "tasks": [like["task"]], "env_steps": env_steps, "seeds": 1}
    arm = like["config"] | config | ({} if remedy is None else {"remedy": remedy})
    return study_from_dict(table | {"agent": like["agent"], "arm": {"a": arm}})


def test_one_or_a_list_and_an_arm_instead_of_all():
    assert study(RESET).arms["a"].remedy == (Reset(every=200),)
    both = [RESET, {"kind": "l2_init"}]
    assert [r.kind for r in study(both).arms["a"].remedy] == ["reset", "l2_init"]
    shared = {"question": "?", "tasks": ["t"], "env_steps": 9, "seeds": 1, "remedy": RESET}
    arms = {"a": {}, "b": {"remedy": {"kind": "weight_decay", "rate": 0}}, "c": {"remedy": []}}
    read = study_from_dict(shared | {"arm": arms}).arms
    assert [[r.kind for r in read[name].remedy] for name in "abc"] == [
        ["reset"],
        ["weight_decay"],
        [],
    ]


@pytest.mark.parametrize(
    ("remedy", "message"),
    [
        ({"kind": "rest"}, "arm.a.remedy.kind: unknown remedy 'rest'. Did you mean 'reset'?"),
        ({"every": 3}, "arm.a.remedy: must be a table such as"),
        ({"kind": "reset"}, "arm.a.remedy.every: must be given"),
        ({"kind": "reset", "evry": 3}, "arm.a.remedy.evry: unknown setting. Did you mean 'every'?"),
        ({"kind": "reset", "every": 0}, "arm.a.remedy.every must be greater than 0: got 0"),
        (RESET | {"part": "heads"}, "remedy.part: must be one of 'network', 'head', not 'heads'"),
        ([RESET, RESET], "arm.a.remedy: reset is there more than once"),
    ],
)
def test_what_is_no_remedy_is_refused_where_it_stands(remedy, message):
    with pytest.raises(RecordError) as refused:
        study(remedy)
    assert message in str(refused.value)


GRADUAL = {"kind": "gradual", "begin": 100, "end": 600, "every": 100, "sparsity": 0.5}


@pytest.mark.parametrize(
    ("remedy", "like", "config", "message"),
    [
        (RESET | {"every": 1_000}, REPLAY, {}, "reset would never act: every = 1,000 env steps"),
        ({"kind": "revive", "at": 2_000, "share": 0.1}, REPLAY, {}, "revive would never act"),
        (GRADUAL | {"end": 2_000}, REPLAY, {"critic": {}}, "gradual would not be done"),
        (GRADUAL, REPLAY, {}, "gradual begins dense, and critic has a sparsity"),
        (GRADUAL | {"begin": 700}, REPLAY, {"critic": {}}, "must begin before it ends"),
        (GRADUAL | {"sparsity": 1.0}, REPLAY, {"critic": {}}, "needs a sparsity above 0 and below"),
        (
            {"kind": "rigl", "every": 9},
            REPLAY,
            {"critic": {"width": 8}},
            "rigl moves the masks of sparse networks, and actor and critic are dense",
        ),
        (
            {"kind": "set", "every": 9, "of": "actor"},
            REPLAY,
            {},
            "set moves the masks of sparse networks, and actor is dense",
        ),
        ({"kind": "set", "every": 600, "until": 0.5}, REPLAY, {}, "its masks stay after 0.5"),
        (RESET | {"of": "actor"}, ROLLOUT, {}, "reset is for the actor, which pqn has not"),
        (
            RESET | {"mask": "new"},
            REPLAY,
            {"critic": {"width": 8}},
            'has mask = "new", and actor and critic has no mask',
        ),
        (RESET | {"mask": "new", "part": "head"}, REPLAY, {}, "needs the whole network"),
        ({"kind": "redo", "every": 9}, STREAM, {}, "redo looks at a batch, and stream_q learns"),
        ({"kind": "l2_init"}, STREAM, {}, "l2_init is a term of an optimizer's step"),
        (
            {"kind": "set", "every": 9},
            REPLAY,
            {"critic": {"width": 16, "sparsity": 0.5, "pattern": "grouped"}},
            'set needs critic.pattern = "element"',
        ),
        (
            {"kind": "set", "every": 9},
            REPLAY,
            {"critic": {"width": 8, "sparsity": 0.5, "compute": "packed"}},
            'set changes masks, which packed weights cannot follow: set critic.compute = "masked"',
        ),
        (
            [{"kind": "set", "every": 9}, {"kind": "rigl", "every": 9}],
            REPLAY,
            {},
            "rigl changes masks, and so does set: take one",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(remedy, like, config, message):
    with pytest.raises(RecordError) as refused:
        check_study(study(remedy, like, **config))
    assert message in str(refused.value)


def test_a_record_without_a_remedy_is_what_it_was():
    plain, treated = study(None), study(RESET)
    record = to_dict(plain.runs()[0].run)
    assert "remedy" not in record
    assert "remedy" not in study_record(plain, "")["arms"]["a"]
    # The name that this run had before there were remedies.
    run = Run("gym/Pendulum-v1", "ddpg", config=AGENTS["ddpg"].config(tau=0.01))
    keys = ["task", "agent", "seed", "env_steps", "config", "train"]
    assert list(to_dict(run)) == keys
    assert canonical_hash(to_dict(run)) == PLAIN
    run = treated.runs()[0].run
    assert to_dict(run)["remedy"][0] == {
        "kind": "reset",
        "every": 200,
        "of": "all",
        "part": "network",
        "mask": "kept",
    }
    assert run_from_dict(to_dict(run)) == run
    assert treated.runs()[0].run_id != plain.runs()[0].run_id
    assert study_record(treated, "")["arms"]["a"]["remedy"] == to_dict(run)["remedy"]


def test_auto_comes_to_masked_where_masks_change():
    run = study({"kind": "set", "every": 9}).runs()[0].run
    assert resolved(run).config.critic.compute == "masked"
    assert resolved(replace(run, remedy=())).config.critic.compute in ("masked", "mixed")


def due(remedy, total, each):
    clocks = [Clock(jnp.int32(t - each), jnp.int32(t), total) for t in range(each, total + 1, each)]
    return [int(clock.now) for clock in clocks if bool(is_due(remedy, clock))]


def test_moments_are_env_steps_and_none_is_at_the_end():
    assert due(Reset(every=20), 60, 6) == [24, 42]
    assert due(Gradual(begin=12, end=60, every=20, sparsity=0.5), 60, 6) == [24, 42, 60]
    assert due(RigL(every=10), 40, 5) == [10, 20, 30]
    assert due(Revive(at=7, share=0.1), 40, 5) == [10]


def test_a_remedy_can_be_written_in_words():
    (remedy,) = read_remedies(remedy_in_words("revive at=7_000 share=0.1"))
    assert remedy == Revive(at=7_000, share=0.1)
    for words, says in (("rest every=5", "Did you mean 'reset'"), ("reset every", "KEY=VALUE")):
        with pytest.raises(RecordError, match=says):
            read_remedies(remedy_in_words(words), "--remedy")


def test_all_kinds_are_known_by_name():
    assert set(KINDS) == {
        *("reset", "shrink_perturb", "redo", "l2_init", "weight_decay"),
        *("set", "rigl", "gradual", "revive", "spectral_norm"),
    }
    assert read_remedies([]) == ()
