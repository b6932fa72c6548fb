"""What the command line lays over a study file: `seeds=2`, `arm.NAME.agent=ddpg`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kanbatsu.files.tables import RecordError, did_you_mean, merge, parse_override
from kanbatsu.study.external import is_external


def lay_over(
    table: Mapping[str, Any], overrides: Sequence[str], reserved: set[str]
) -> Mapping[str, Any]:
    """Return a study's table with settings of the command line laid over it, in their order.

    Args:
        table: as it was read from the file; it stays as it is.
        overrides: `KEY=VALUE` each; a key that begins with an arm's name is that arm's.
        reserved: names that begin a setting's path.

    Raises:
        RecordError: A key names neither a setting nor an arm.

    Example:
        >>> lay_over({"seeds": 5, "env_steps": 10}, ["seeds=2"], {"seeds", "env_steps"})
        {'seeds': 2, 'env_steps': 10}
    """
    for override in overrides:
        table = _lay_one(table, override, reserved)
    return table


def _lay_one(table: Mapping[str, Any], override: str, reserved: set[str]) -> dict[str, Any]:
    path, value = parse_override(override)
    arms = table.get("arm")
    arms = arms if isinstance(arms, Mapping) else {}
    every_arm = len(path) > 1 and path[0] == "arm" and path[1] not in arms
    if path[0] in arms:
        path = ("arm", *path)
    first = path[1] if every_arm else path[0]
    free = any(isinstance(arm, Mapping) and is_external(table, arm) for arm in arms.values())
    if not free and first not in reserved and first not in arms:
        raise RecordError(
            f"{override}: {first!r} is neither a setting nor an arm. "
            f"{did_you_mean(first, reserved.union(arms))}"
        )
    if every_arm:
        return merge(table, {"arm": {name: _nest(path[1:], value) for name in arms}})
    return merge(table, _nest(path, value))


def _nest(path: Sequence[str], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return value
