"""Budgets: kept weights equal to the last one, operations as counted by hand."""

import dataclasses

import equinox as eqx
import jax
import pytest

import kanbatsu
from kanbatsu.agents.sac import SAC, SACConfig
from kanbatsu.agents.schedule import StreamTrainConfig, TrainConfig
from kanbatsu.files.tables import RecordError
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.run.operations import Operations, operations
from kanbatsu.sparsity.flops import multiplied
from kanbatsu.study.budget import came_out, matches, solve, total_flops
from kanbatsu.study.file import study_from_dict
from kanbatsu.study.plan import check_study, study_record
from kanbatsu.types import Spec

TASK = "kanbatsu.envs.probe:action_reward"
MLP = {"network": "mlp", "width": 8, "blocks": 1}
DENSE = {"critic": {"width": 16}}


def study(arm, *, to="dense", task=TASK, **more):
    arms = {"dense": DENSE, "thin": arm}
    defaults = {"actor": MLP, "critic": MLP, "train": {"warmup_interactions": 10, "batch_size": 4}}
    header = {"question": "?", "tasks": [task], "env_steps": 100, "seeds": 1}
    return study_from_dict(header | defaults | {"arm": arms} | more)


def matched(what, arm=None, **more):
    return study({"match": {"to": "dense", "what": what}} | (arm or {}), **more)


def test_a_product_touches_what_its_layer_stores():
    key = jax.random.key(0)
    layer = kanbatsu.prune({"w": jax.numpy.ones((8, 20))}, 0.75, key=key, compute="masked")
    assert multiplied(layer) == {"w": 160}
    grouped = {"pattern": "grouped", "group_size": 8, "compute": "packed"}
    layer = kanbatsu.prune(eqx.nn.Linear(8, 20, key=key), 0.75, key=key, **grouped)
    # Two of eight inputs for 20 outputs, and for the four that fill up the third group.
    assert multiplied(layer) == {"weight": 48}


@pytest.mark.parametrize("compute", ["masked", "packed"])
def test_operations_of_an_agent_by_hand(compute):
    small = {"network": "mlp", "width": 8, "blocks": 1, "sparsity": 0.5, "compute": compute}
    config = SACConfig(NetworkConfig(**small), CriticConfig(**small, members=2))
    agent = SAC(Spec((3,), action_dim=1, episode_length=None), config)
    networks = agent.networks(agent.init(jax.random.key(0)))
    counted = operations(agent, networks, batch=4, acts_apart=True)
    # Actor 3 x 8 and two heads 8 x 1: 40 weights. Critics (3 + 1) x 8 and 8 x 1, twice: 80.
    actor, critic = (40, 80) if compute == "masked" else (20, 40)
    assert counted == Operations(2 * 4 * (4 * actor + 6 * critic), 2 * actor)


def test_updates_begin_after_the_warm_up():
    train = TrainConfig(warmup_interactions=5, updates_per_interaction=3, environments=2)
    assert [train.counts(turn) for turn in (1, 2, 3, 4)] == [
        (2, 0),
        (4, 0),
        (6, 6),
        (8, 12),
    ]
    assert StreamTrainConfig().counts(7) == (7, 7)


def test_a_sparsity_is_solved_so_that_kept_weights_are_equal():
    solved = solve(matched("kept", {"critic": {"width": 100}}))
    kept = {name: networks["critic"].kept for name, networks in check_study(solved).items()}
    assert kept == {"dense": 3 * 16 + 16, "thin": 64}
    assert solved.arms["thin"].solved[TASK].config.critic.sparsity == pytest.approx(1 - 64 / 400)
    assert list(matches(solved)) == [
        "thin is matched to dense in kept: critic.sparsity = 0.84, 64 weights kept (64)"
    ]


def test_a_width_is_solved_for_a_sparsity():
    solved = solve(matched("kept", {"critic": {"sparsity": 0.9}}))
    # 4 weights a unit, of which 0.4 are kept: 159 units keep 63.6, which is 64 of them.
    assert solved.arms["thin"].solved[TASK].config.critic.width == 159
    assert check_study(solved)["thin"]["critic"].kept == 64


def test_equal_operations_give_a_cheaper_arm_more_steps():
    packed = {"critic": {"width": 8, "sparsity": 0.5, "compute": "packed"}}
    solved = solve(matched("flops", packed))
    dense, thin = solved.arms["dense"], solved.arms["thin"]
    steps = thin.solved[TASK].env_steps
    goal = total_flops(dense, TASK, 100)
    # Actor 2 x 8 and 2 x (8 x 1), critic 3 x 16 and 16: 32 and 64 weights; 91 turns with updates.
    assert goal == 91 * 2 * (2 * 4 * (4 * 32 + 6 * 64)) + 100 * 2 * 32
    assert steps > 100
    each = abs(total_flops(thin, TASK, steps) - goal)
    for other in (steps - 1, steps + 1):
        assert abs(total_flops(thin, TASK, other) - goal) >= each
    assert solved.runs()[1].run.env_steps == steps
    masked = matched("flops", {"critic": {"width": 16, "sparsity": 0.5, "compute": "masked"}})
    assert solve(masked).arms["thin"].solved[TASK].env_steps == 100


def test_a_solution_is_kept_with_the_study():
    asked = matched("flops", {"critic": {"width": 4}})
    record = study_record(solve(asked), "")
    stored = record["arms"]["thin"]["solved"][TASK]
    assert record["arms"]["thin"]["match"] == {"to": "dense", "what": "flops"}
    stored["env_steps"] = 123  # as another machine may have found
    assert solve(asked, record).runs()[1].run.env_steps == 123
    other = dataclasses.replace(asked, env_steps=200)
    assert solve(other, record).runs()[1].run.env_steps != 123
    measured = matched("time", {"critic": {"width": 4}})
    seconds = {"dense": 2.0, "thin": 1.0}

    def cost(arm, task):
        name = "dense" if arm.match is None else "thin"
        return lambda env_steps: seconds[name] * env_steps

    found = solve(measured, measure=lambda ready: cost)
    assert found.runs()[1].run.env_steps == 200
    timed = {"dense": {"seconds": 50.0}, "thin": {"seconds": 55.0}}
    assert list(came_out(found, timed)) == [
        "thin was to take as long as dense: 55 s a run against 50 s, 10% more"
    ]
    assert list(came_out(found, timed | {"thin": {"seconds": None}})) == []
    with pytest.raises(RecordError, match="needs a measurement"):
        solve(measured)
    assert solve(measured, study_record(found, "")).runs()[1].run.env_steps == 200


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"match": {"to": "dens", "what": "kept"}, "critic": {"width": 9}}, "Did you mean 'dense'"),
        ({"match": {"to": "thin", "what": "flops"}}, "an arm cannot be matched to itself"),
        ({"match": {"to": "dense", "what": "money"}}, "must be one of 'kept', 'flops', 'time'"),
        ({"match": {"to": "dense", "what": "kept"}}, "has nothing to solve for: give a width"),
        (
            {
                "match": {"to": "dense", "what": "kept"},
                "critic": {"width": 99, "sparsity": 0.5},
            },
            "arm.thin.match: gives critic.width and critic.sparsity; leave out the one",
        ),
    ],
)
def test_a_match_that_makes_no_sense_is_refused(arm, message):
    with pytest.raises(RecordError) as error:
        study(arm)
    assert message in str(error.value)


def test_a_match_that_cannot_be_met_is_refused():
    with pytest.raises(RecordError) as error:
        solve(matched("kept", {"critic": {"width": 3}}))
    assert str(error.value) == (
        "arm.thin.match: critic: 64 weights are to be kept, but a width of 3 has only 12; make it "
        "wider"
    )
    with pytest.raises(ValueError, match="is matched to another"):
        matched("flops").runs()
