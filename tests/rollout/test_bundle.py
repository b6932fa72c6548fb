"""A candidate's files are held against the rollout that they are for, before each stage."""

import dataclasses

import numpy as np
import pytest

from kanbatsu.deploy.contract import Contract
from kanbatsu.deploy.layers import Clip, Dense, Linear, Normalise
from kanbatsu.deploy.write import Export, Original, write_policy
from kanbatsu.rollout.bundle import check_bundle
from kanbatsu.rollout.config import (
    CanaryRule,
    CandidateSettings,
    GuardSettings,
    RolloutError,
    RolloutSettings,
)
from kanbatsu.rollout.stages import Rollout
from kanbatsu.rollout.tally import Tally

NAMES = Contract(
    observation_names=("level", "flow"),
    action_names=("valve",),
    action_units=("%",),
    control_period=0.05,
)
GUARD = GuardSettings(2, (-1.0,), (1.0,), (0.0,), deadline_s=0.01)


def export(folder, contract=NAMES, gain=0.5, high=1.0):
    """Write a policy of one layer: `gain` times the first entry of an observation."""
    weight = np.array([[gain], [0.0]], np.float32)
    bound = np.array([high], np.float32)
    layers = [
        Normalise(np.zeros(2, np.float32), np.ones(2, np.float32)),
        Linear(Dense(weight), np.zeros(1, np.float32), 2, 1, relu=False),
        Clip(-bound, bound),
    ]

    def act(observations):
        return np.clip(observations @ weight, -high, high)

    write_policy(layers, folder, Original(act, "one layer"), Export(contract))
    return str(folder)


@pytest.fixture
def settings(tmp_path):
    rule = CanaryRule(0.0, 100.0, worse_by=40.0)
    return RolloutSettings(CandidateSettings(export(tmp_path / "policy")), GUARD, rule)


def changed(settings, **parts):
    return dataclasses.replace(settings, **parts)


def test_what_fits_is_taken_and_a_factory_is_not_looked_at(settings):
    check_bundle(settings)
    check_bundle(changed(settings, candidate=CandidateSettings("nowhere:policy")))


@pytest.mark.parametrize(
    ("guard", "said"),
    [
        ({"obs_dim": 3}, r"observation: 2 entries in the contract, 3 in \[guard\]"),
        (
            {"low": (-1.0, 0.0), "high": (1.0, 1.0), "safe_action": (0.0, 0.0)},
            r"action: 1 entries in the contract, 2 in \[guard\]",
        ),
        ({"deadline_s": 0.1}, r"guard\.deadline_s: 0\.1 s, .* control period, 0\.05 s"),
        (
            {"low": (0.0,), "high": (100.0,)},
            r"valve: \d+ of 16 golden actions lie outside guard, 0 to 100; they go from",
        ),
    ],
)
def test_limits_that_do_not_fit_the_contract_are_named(settings, guard, said):
    with pytest.raises(RolloutError, match=said):
        check_bundle(changed(settings, guard=dataclasses.replace(GUARD, **guard)))


def test_a_correction_is_held_against_its_own_bound(settings):
    candidate = dataclasses.replace(settings.candidate, residual=True, correction=(0.1,))
    with pytest.raises(RolloutError, match=r"outside candidate\.correction, -0\.1 to 0\.1"):
        check_bundle(changed(settings, candidate=candidate))
    check_bundle(changed(settings, candidate=dataclasses.replace(candidate, correction=(1.0,))))


def test_another_order_of_observations_than_the_incumbents_is_refused(settings, tmp_path):
    swapped = dataclasses.replace(NAMES, observation_names=("flow", "level"), control_period=0.1)
    incumbent = export(tmp_path / "incumbent", swapped)
    with pytest.raises(RolloutError) as caught:
        check_bundle(changed(settings, incumbent=incumbent))
    assert str(caught.value).splitlines()[1:3] == [
        "observation.names: ['level', 'flow'] in the candidate's contract, "
        "['flow', 'level'] in the incumbent's",
        "control_period_seconds: 0.05 in the candidate's contract, 0.1 in the incumbent's",
    ]


def test_a_damaged_bundle_neither_begins_nor_advances(tmp_path):
    policy = export(tmp_path / "policy")
    (tmp_path / "rollout.toml").write_text(
        f'candidate = {{ policy = "{policy}" }}\n'
        "guard = { obs_dim = 2, low = [-1.0], high = [1.0], safe_action = [0.0] }\n"
        "shadow = { answers = 1 }\n"
        "canary = { return_low = 0.0, return_high = 1.0, worse_by = 0.5 }\n"
    )
    rollout = Rollout.begin(tmp_path, "Aoi", "try")
    tally = Tally.empty(1)
    tally.answered([0.0], 3.0, [], late=False)
    tally.store(tmp_path / "shadow.json")
    arrays = tmp_path / "policy" / "policy.safetensors"
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 1
    arrays.write_bytes(content)
    with pytest.raises(RolloutError, match=r"policy\.safetensors does not match its checksum"):
        rollout.advance("Aoi", "looks well")
    content[-1] ^= 1
    arrays.write_bytes(content)
    assert rollout.advance("Aoi", "mended")["to"] == "canary"
