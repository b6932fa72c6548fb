"""What an arm has as much of as another: asked in a study file, solved before it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kanbatsu.files.tables import did_you_mean
from kanbatsu.report.gather import EXTERNAL
from kanbatsu.report.results import INCUMBENT
from kanbatsu.run.external import RunConfig

What = Literal["kept", "flops", "time", "env_steps"]


@dataclass(frozen=True)
class Match:
    """The arm that another is matched to, and in what."""

    to: str
    """The other arm."""
    what: What
    """What is made equal: `kept` weights of each network that differs, `flops` of a whole run, the
    `time` that a run takes on this machine, or `env_steps`."""


@dataclass(frozen=True)
class Solved:
    """What a match comes to on one task."""

    config: RunConfig
    """The arm's configuration, with the sparsity or width that was solved for."""
    env_steps: int
    """Env steps at which the arm's runs end."""
    says: str
    """A line on what was solved for and how close it came."""
    asked: str = ""
    """Hash of all that the solution depends on: it is used again only where this is the same."""


Unknowns = tuple[tuple[str, Literal["sparsity", "width"]], ...]
"""For each network of a match of kept weights, what is solved for."""


def unknowns(table: Mapping[str, Any]) -> tuple[Unknowns, list[str]]:
    """Read off an arm's own table what a match of kept weights solves for.

    A network for which the arm gives no sparsity gets one; a network for which it gives a sparsity
    but no width gets a width.

    Args:
        table: The arm's own settings, without the defaults of all arms.

    Returns:
        The unknowns, and what is wrong.

    Example:
        >>> unknowns({"critic": {"width": 1024}})
        ((('critic', 'sparsity'),), [])
        >>> unknowns({"critic": {"width": 1024, "sparsity": 0.5}})[1]
        ['gives critic.width and critic.sparsity; leave out the one that is to be solved for']
    """
    solvable: list[tuple[str, Literal["sparsity", "width"]]] = []
    problems = []
    for network in ("actor", "critic"):
        given = table.get(network)
        if not isinstance(given, Mapping):
            continue
        if "sparsity" not in given:
            solvable.append((network, "sparsity"))
        elif "width" not in given:
            solvable.append((network, "width"))
        else:
            problems.append(
                f"gives {network}.width and {network}.sparsity; leave out the one that is to be "
                "solved for"
            )
    if not solvable and not problems:
        problems.append(
            "has nothing to solve for: give a width, such as critic = { width = 1024 }, and the "
            "sparsity is solved for, or a sparsity, and the width is"
        )
    return tuple(solvable), problems


def match_problems(arms: Mapping[str, Any]) -> Iterator[str]:
    """Say which matches of a study's arms are to no arm that they could be matched to."""
    for name, arm in arms.items():
        if arm.match is None:
            continue
        where, to = f"arm.{name}.match.to", arm.match.to
        if to not in arms:
            yield f"{where}: no arm is called {to!r}. {did_you_mean(to, arms)}"
        elif to == name:
            yield f"{where}: an arm cannot be matched to itself"
        elif arms[to].agent in (EXTERNAL, INCUMBENT):
            yield f"{where}: {to!r} is no network of kanbatsu's, and cannot be measured"
        elif arms[to].match is not None:
            yield f"{where}: {to!r} is matched itself; match both to the same arm"
