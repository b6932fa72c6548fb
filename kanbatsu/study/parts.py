"""Parts of an arm's table: the rule that it corrects, and what it is matched in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kanbatsu.envs.residual import ResidualConfig
from kanbatsu.files.tables import RecordError, from_dict
from kanbatsu.study.match import Match, Unknowns, unknowns


def read_residual(table: Any, where: str) -> ResidualConfig | None:
    """Read the rule that an arm corrects; `false` takes away the one that all arms share.

    Args:
        table: The key `residual` of the arm.
        where: Name of the key in messages.
    """
    return None if table is False else from_dict(ResidualConfig, table, where)


def read_match(asked: Any, table: Mapping[str, Any], where: str) -> tuple[Match | None, Unknowns]:
    """Read what an arm is to have as much of as another.

    Args:
        asked: The key `match` of the arm.
        table: Table of the arm.
        where: Name of the arm in messages.

    Raises:
        RecordError: It is no match, or leaves nothing, or too much, to solve for.
    """
    if asked is None:
        return None, ()
    match = from_dict(Match, asked, f"{where}.match".lstrip("."))
    if match.what != "kept":
        return match, ()
    found, problems = unknowns(table)
    if problems:
        raise RecordError("\n".join(f"{where}.match: {problem}" for problem in problems))
    return match, found
