"""`kanbatsu rollout calibrate` and `evaluate`: what is found out from logs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from kanbatsu.cli.saying import say


@dataclass(frozen=True)
class CalibrateArguments:
    """Find the thresholds of the watch over drift on held-out logs, and store them as drift.json.

    Rate and horizon stand in [drift] of rollout.toml. Logs that are too short for them are refused.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder of the rollout."""
    logs: tuple[Path, ...] = ()
    """Files with arrays `observations` [samples, features] and `actions` [samples, actions] that
    numpy.savez wrote, or folders of journals; by default the journal of the rollout, where the
    service records samples (record = true in [drift])."""


@dataclass(frozen=True)
class EvaluateArguments:
    """Estimate what a candidate would return from the log of another policy, or say why not."""

    log: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="LOG")]
    """Log with observation, action, reward, episode and probability of every step: .npz or JSON
    lines (docs/off-policy.md)."""
    candidate: str
    """The policy in question: folder of an exported policy that chooses among numbered actions, or
    package.module:factory of a function from observations to probabilities of choices."""
    discount: float = 1.0
    """Discount of rewards, from step to step."""
    level: float = 0.95
    """Level of the intervals."""
    draws: int = 1_000
    """Number of resamples of the bootstrap."""
    seed: int = 0
    """Seed of the bootstrap."""


def calibrate(given: CalibrateArguments) -> None:
    """Calibrate the watch over drift."""
    from kanbatsu.rollout.watch.held_out import calibrate_rollout
    from kanbatsu.rollout.watch.stored_watch import FILE

    made, notes = calibrate_rollout(given.folder, given.logs)
    say(f"{given.folder / FILE}: {made.claim()}")
    for note in notes:
        say(f"note: {note}")


def evaluate(given: EvaluateArguments) -> None:
    """Print estimates of a candidate's return, or why there are none."""
    from kanbatsu.rollout.evaluation.candidates import read_candidate
    from kanbatsu.rollout.evaluation.evaluate import evaluate
    from kanbatsu.rollout.evaluation.log import read_log

    log, candidate = read_log(given.log), read_candidate(given.candidate)
    answer = evaluate(
        log,
        candidate,
        discount=given.discount,
        level=given.level,
        draws=given.draws,
        seed=given.seed,
    )
    say(
        f"{answer.episodes:,} episodes, {answer.effective:,.1f} in effect; {answer.covered:.1%} of "
        "the candidate's actions are within the log's support"
    )
    if answer.refused:
        say(f"not evaluable: {answer.refused}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("return", "mean", f"{given.level:.0%} from", "to"):
        table.add_column(heading)
    for row in (answer.logged, *answer.estimates):
        table.add_row(row.name, *(f"{value:.4g}" for value in (row.value, row.low, row.high)))
    Console().print(table, highlight=False)
