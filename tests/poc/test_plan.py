"""The file of a proof of concept: what init writes is a plan, and mistakes are refused."""

import tomllib

import pytest

from kanbatsu.files.tables import RecordError
from kanbatsu.poc.plan import poc_from_dict
from kanbatsu.poc.search import rounds
from kanbatsu.poc.template import template


def table(**changes):
    found = tomllib.loads(template("gym/Pendulum-v1", "poc.toml"))
    for key, value in changes.items():
        name, _, part = key.partition("__")
        if not part:
            found[name] = value
        else:
            found[name] = found[name] | {part: value}
    return found


def test_what_init_writes_is_a_plan():
    poc = poc_from_dict(table())
    assert poc.control == "dense"
    assert poc.candidates == [
        f"critic-{width}-s{sparsity}" for width in (128, 256) for sparsity in (50, 80, 90)
    ]
    arm = poc.study.arms["critic-256-s80"].config
    assert (arm.critic.width, arm.critic.sparsity, arm.actor.width) == (256, 0.8, 64)
    assert poc.study.arms["dense"].config.critic.sparsity == 0.0
    assert poc.study.seeds == (0, 1, 2, 3, 4)


def test_seeds_of_the_search_are_never_those_of_the_confirmation():
    for start in (0, 1, 7):
        poc = poc_from_dict(table(seed=start, confirm__seeds=100))
        tried = rounds(6, 4, 1, poc.first_search_seed)
        searched = [seed for each in tried for seed in each.seeds]
        assert len(set(searched)) == len(searched) == 16
        assert not set(searched) & set(poc.study.seeds)
    assert rounds(1, 2, 1, 0) == []
    assert [each.candidates for each in rounds(9, 1, 2, 0)] == [9, 5, 3]


def test_candidates_may_be_matched_to_the_control():
    poc = poc_from_dict(table(search={"widths": [256, 512], "match": "kept"}))
    assert poc.candidates == ["critic-256-kept", "critic-512-kept"]
    arm = poc.study.arms["critic-512-kept"]
    assert (arm.match.to, arm.match.what, arm.unknowns) == (
        "dense",
        "kept",
        (("critic", "sparsity"),),
    )
    own = poc_from_dict(table(search={}, arm__mine={"critic": {"sparsity": 0.7}}))
    assert own.candidates == ["mine"]


@pytest.mark.parametrize(
    ("critic", "search", "candidates"),
    [
        # SAC's critic is 512 wide and dense unless the plan says otherwise.
        ({}, {"widths": [512], "sparsities": [0.0, 0.5]}, ["critic-512-s50"]),
        ({}, {"widths": [512, 1024], "match": "kept"}, ["critic-1024-kept"]),
        ({}, {"widths": [512, 256], "match": "flops"}, ["critic-256-s0"]),
        (
            {"width": 128, "sparsity": 0.5},
            {"widths": [128], "sparsities": [0.5, 0.8]},
            ["critic-128-s80"],
        ),
        (
            {"width": 128, "sparsity": 0.5},
            {"widths": [128, 256], "match": "kept"},
            ["critic-256-kept"],
        ),
        # A dense network as wide as a sparse control is another one.
        ({"width": 128, "sparsity": 0.5}, {"widths": [128]}, ["critic-128-s0"]),
    ],
)
def test_the_control_itself_is_no_candidate(critic, search, candidates):
    poc = poc_from_dict(table(arm={"dense": {"critic": critic}}, search=search))
    assert poc.candidates == candidates


def test_an_arm_that_the_plan_names_is_kept_though_it_is_like_the_control():
    search = {"widths": [128], "sparsities": [0.0, 0.5]}
    poc = poc_from_dict(table(search=search, arm__again={"critic": {"width": 128}}))
    assert poc.candidates == ["again", "critic-128-s50"]
    # There is none to name in a rule either.
    with pytest.raises(RecordError, match="no arm is called 'critic-128-s0'"):
        poc_from_dict(table(search=search, decision__arms=["critic-128-s0"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decision__arms": ["critic-999"]}, "decision.arms: no arm is called 'critic-999'"),
        ({"decision__control": "dens"}, "decision.control: no arm is called 'dens'"),
        ({"control": "dens"}, 'control: name one of the arms, such as control = "dense"'),
        ({"budget__hours": 0.0}, "budget.hours: must be greater than 0, not 0"),
        ({"budget": {}}, "budget.hours: must be given"),
        ({"budget__workers": 0}, "budget.workers: must be at least 1, not 0"),
        ({"search__seeds": 0}, "search.seeds: must be at least 1, not 0"),
        ({"search__match": "kept"}, "search.sparsities: are solved for"),
        ({"confirm__seeds": 3}, "confirm.seeds: 3 are fewer than decision.seeds = 5"),
        ({"seeds": 3}, "seeds: belong to [search] and [confirm]"),
        ({"seed": -1}, "seed: must be a whole number of 0 or more"),
        ({"search__sparsity": 0.5}, "Did you mean 'sparsities'?"),
        ({"env_steps": 0}, "env_steps: must be at least 1"),
        ({"arm__quick": {"match": {"to": "dense", "what": "time"}}}, 'use "kept" or "flops"'),
    ],
)
def test_a_mistake_is_refused(changes, message):
    with pytest.raises(RecordError) as error:
        poc_from_dict(table(**changes))
    assert message in str(error.value)


def test_all_mistakes_are_named_at_once():
    with pytest.raises(RecordError) as error:
        poc_from_dict(table(budget__hours=-1.0, search__finalists=0, decision__seeds=1))
    assert len(str(error.value).splitlines()) == 3
