"""A candidate's bundle held against the rollout that it is for: contract, golden pairs, limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.deploy.golden import TOLERANCE
from kanbatsu.rollout.config import RolloutError, RolloutSettings
from kanbatsu.rollout.policy.load import load_policy

SHARED = (
    ("observation", ("size", "names", "units", "parts")),
    ("action", ("size", "names", "units")),
)
"""Parts of two contracts that must agree where both say something."""


def check_bundle(settings: RolloutSettings) -> None:
    """Refuse a candidate whose files, or whose contract, do not fit the rollout.

    An exported policy is loaded: the checksum of each of its files is compared, and its golden
    pairs are computed again on this machine. Its contract is then held against the guard's limits,
    and against the contract of the incumbent where that is an exported policy too. Of
    package.module:factory nothing is known, and nothing is checked.

    Args:
        settings: of the rollout.

    Raises:
        RolloutError: Something differs; the message has one line for each difference.
    """
    name = settings.candidate.policy
    if ":" in name:
        return
    policy: Any = load_policy(name)
    contract = policy.contract
    differences = [*_of_limits(contract, settings), *_of_golden(contract, settings)]
    incumbent = settings.incumbent
    if incumbent and ":" not in incumbent and Path(incumbent).is_dir():
        theirs: Any = load_policy(incumbent)
        differences += _of_contracts(contract, theirs.contract)
    if differences:
        raise RolloutError(
            f"{name} does not fit this rollout:\n"
            + "\n".join(differences)
            + "\nChange rollout.toml where it is wrong, or export the policy that was meant"
        )


def _of_limits(contract: Mapping[str, Any], settings: RolloutSettings) -> Iterator[str]:
    """Hold a contract against the guard's limits."""
    guard = settings.guard
    for side, size in (("observation", guard.obs_dim), ("action", guard.action_dim)):
        theirs = contract[side]["size"]
        if theirs != size:
            yield f"{side}: {theirs} entries in the contract, {size} in [guard]"
    period = contract.get("control_period_seconds")
    if period is not None and guard.deadline_s > period:
        yield (
            f"guard.deadline_s: {guard.deadline_s:g} s, longer than the contract's control period, "
            f"{period:g} s"
        )
    kind = contract["action"].get("kind")
    if kind == "choices" and settings.candidate.residual:
        yield "action: choices in the contract, and candidate.residual adds numbers"


def _of_golden(contract: Mapping[str, Any], settings: RolloutSettings) -> Iterator[str]:
    """Hold the golden actions against the box that they would have to lie in."""
    guard, candidate = settings.guard, settings.candidate
    low, high, where = np.array(guard.low), np.array(guard.high), "guard"
    if candidate.residual:
        high, where = np.array(candidate.correction), "candidate.correction"
        low = -high
    actions = np.array(contract["golden"]["actions"], np.float64)
    actions = actions.reshape(len(actions), -1)
    if actions.shape[1] != low.size:
        return
    names = contract["action"].get("names") or [f"action[{i}]" for i in range(low.size)]
    rounding = TOLERANCE * (high - low)
    outside = ((actions < low - rounding) | (actions > high + rounding)).sum(axis=0)
    for entry in np.flatnonzero(outside):
        yield (
            f"{names[entry]}: {outside[entry]} of {len(actions)} golden actions lie outside "
            f"{where}, {low[entry]:g} to {high[entry]:g}; they go from "
            f"{actions[:, entry].min():.4g} to {actions[:, entry].max():.4g}"
        )


def _of_contracts(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    """Hold a candidate's contract against the incumbent's."""
    for side, keys in SHARED:
        for key in keys:
            one, other = ours[side].get(key), theirs[side].get(key)
            if one is not None and other is not None and one != other:
                yield f"{side}.{key}: {one} in the candidate's contract, {other} in the incumbent's"
    for key in ("control_period_seconds", "action_repeat"):
        one, other = ours.get(key), theirs.get(key)
        if one is not None and other is not None and one != other:
            yield f"{key}: {one} in the candidate's contract, {other} in the incumbent's"
