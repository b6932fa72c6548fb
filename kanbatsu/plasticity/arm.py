"""An arm of the bench: read from its table, and matched to another where it asks for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kanbatsu.files.tables import did_you_mean, from_dict, merge
from kanbatsu.plasticity.classifier import plan
from kanbatsu.plasticity.config import ClassifierConfig, LabelRun, LabelStream
from kanbatsu.ranges import check_ranges
from kanbatsu.remedies.check import check_remedies
from kanbatsu.remedies.reading import read_remedies
from kanbatsu.remedies.records import Gradual, ReDo, Remedy
from kanbatsu.study.budget import WIDEST, nearest
from kanbatsu.study.file import ARM_NAME
from kanbatsu.study.match import Match


@dataclass(frozen=True)
class LabelArm:
    """One classifier, at every learning rate."""

    classifier: ClassifierConfig
    """The network."""
    match: Match | None = None
    """The match to another arm's kept weights, if there is one; it is solved already."""
    remedy: tuple[Remedy, ...] = ()
    """Remedies of the arm's runs."""


def read_arm(
    name: str,
    table: Any,
    defaults: Any,
    stream: LabelStream,
    read: Mapping[str, LabelArm],
) -> LabelArm:
    """Read one arm, and solve its match.

    Args:
        name: The arm's.
        table: Its own settings.
        defaults: The classifier of all arms.
        stream: The tasks.
        read: The arms that it may be matched to.

    Raises:
        ValueError: It cannot work.
    """
    if not ARM_NAME.fullmatch(name):
        raise ValueError("arms name files; use at most 64 letters, digits, '-' and '_'")
    if not isinstance(table, Mapping) or not isinstance(defaults, Mapping):
        raise ValueError("must be a table such as classifier = { width = 64 }")
    unknown = sorted(set(table) - {"classifier", "match", "remedy"})
    if unknown:
        raise ValueError(f"{unknown[0]}: unknown setting. Choose from: classifier, match, remedy.")
    own = table.get("classifier", {})
    config = from_dict(ClassifierConfig, merge(defaults, own), "classifier")
    check_ranges(config, "classifier.")
    remedies = read_remedies(table.get("remedy", ()))
    if "match" not in table:
        plan(config, stream)
        _check(remedies, config, stream)
        return LabelArm(config, remedy=remedies)
    match = from_dict(Match, table["match"], "match")
    if match.what != "kept":
        raise ValueError(f"match.what: arms of the bench are matched in kept, not in {match.what}")
    if match.to not in read or read[match.to].match is not None:
        unmatched = [other for other, arm in read.items() if arm.match is None]
        raise ValueError(
            f"match.to: {match.to!r} must be an arm without a match. "
            f"{did_you_mean(match.to, unmatched)}"
        )
    goal = plan(read[match.to].classifier, stream)[0].kept
    config = _matched(config, own, goal, stream)
    _check(remedies, config, stream)
    return LabelArm(config, match, remedies)


def _check(remedies: tuple[Remedy, ...], config: ClassifierConfig, stream: LabelStream) -> None:
    """Refuse remedies that this classifier cannot have on this stream."""
    check_remedies(remedies, {"classifier": config}, stream.length, LabelRun.agent)
    for remedy in remedies:
        if isinstance(remedy, ReDo) and config.residual:
            raise ValueError(
                "remedy redo needs residual = false: the units of a residual layer feed more than "
                "the layer after them"
            )
        if isinstance(remedy, Gradual):
            plan(replace(config, sparsity=remedy.sparsity), stream)


def _matched(
    config: ClassifierConfig, own: Mapping[str, Any], goal: int, stream: LabelStream
) -> ClassifierConfig:
    """Return the configuration with the number solved for that the arm itself leaves out."""
    if ("width" in own) == ("sparsity" in own):
        raise ValueError("match: give the classifier a width or a sparsity; the other is solved")

    def kept(width: int) -> int:
        try:
            return plan(replace(config, width=width), stream)[0].kept
        except ValueError:  # too narrow for its sparsity: some layer would be empty
            return 0

    if "sparsity" in own:
        return replace(config, width=nearest(kept, goal, most=WIDEST))
    total = plan(replace(config, sparsity=0.0), stream)[0].total
    if goal > total:
        raise ValueError(f"match: {goal:,} weights are to be kept, and there are only {total:,}")
    solved = replace(config, sparsity=1.0 - goal / total)
    plan(solved, stream)
    return solved
