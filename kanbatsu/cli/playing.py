"""The word for a look at an agent itself: `kanbatsu play`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.table import Table

from kanbatsu.cli.parsing import parse
from kanbatsu.cli.results import studies_in
from kanbatsu.cli.saying import USAGE, own_code, refusing, say, say_error

if TYPE_CHECKING:
    from kanbatsu.play.show import Outcome, Show


@dataclass(frozen=True)
class PlayArguments:
    """Play episodes with trained agents, and say how they went; with --video, film them."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN_OR_STUDY")]
    """Folder of a run, OUT/runs/<run id>, or of a study, the --out of kanbatsu study; of a proof of
    concept, its newest stage plays."""
    episodes: int = 1
    """Number of episodes of each player."""
    seed: int = 0
    """Seed of the episodes, which are the same for all players."""
    video: Annotated[Path | None, tyro.conf.arg(metavar="FILE.mp4|gif")] = None
    """File of a film; of a study, pictures of every arm go into its report too."""
    arms: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[ARM ...]")] = ()
    """Arms side by side; the control, the verdict's and others, four at most, by default."""
    task: str | None = None
    """Task of a study; its first by default."""
    run_seed: int | None = None
    """Seed of the runs of a study; the first that has a checkpoint of every arm by default."""
    frames_per_second: int = 30
    """Pace of the film."""
    own_code: bool = True
    """Permission to run tasks and rules that import a module by name (package.module:factory).
    --no-own-code refuses them."""


def play(words: list[str]) -> int:
    """Play episodes, and say how they went."""
    given = parse(PlayArguments, words, "kanbatsu play")
    if given.episodes < 1 or given.frames_per_second < 1 or given.seed < 0:
        say_error("--episodes and --frames-per-second are at least 1, --seed at least 0")
        return USAGE
    from kanbatsu.play.cast import Choice, cast
    from kanbatsu.play.film import check_film
    from kanbatsu.play.show import Show

    with refusing(), own_code(given.own_code):
        if given.video is not None:
            check_film(given.video)
        *_, folder = studies_in(given.out)
        players = cast(folder, Choice(given.arms, given.task, given.run_seed))
        run = players[0].run
        say(f"{run.task}, after {run.env_steps:,} env steps with seed {run.seed}")
        show = Show(players, given.seed, drawn=given.video is not None)
        try:
            outcomes = _perform(show, given)
        finally:
            show.close()
        _say_outcomes(outcomes)
        if given.video is not None:
            _keep(folder, show, outcomes)
    return 0


def _perform(show: Show, given: PlayArguments) -> list[Outcome]:
    """Play all episodes, and film them where that is wanted."""
    from kanbatsu.play.film import write_film

    outcomes: list[Outcome] = []
    frames = show.episodes(given.episodes, outcomes.append)
    if given.video is None:
        for _ in frames:  # there are none, but the episodes are played
            pass
    else:
        count = write_film(given.video, frames, given.frames_per_second)
        say(f"film: {given.video} ({count} frames)")
    return outcomes


def _say_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Print a line for each player's episode."""
    table = Table(box=None, header_style="bold")
    networks = list(dict.fromkeys(name for outcome in outcomes for name in outcome.dormant))
    reported = any(outcome.success is not None for outcome in outcomes)
    for title in ("player", "episode", "return", "interactions"):
        table.add_column(title, justify="left" if title == "player" else "right")
    for name in [*(["success"] if reported else []), *(f"dormant {name}" for name in networks)]:
        table.add_column(name, justify="right")
    for outcome in sorted(outcomes, key=lambda outcome: outcome.episode):
        success = {True: "yes", False: "no", None: ""}[outcome.success]
        shares = [
            f"{outcome.dormant[name]:.1%}" if name in outcome.dormant else "" for name in networks
        ]
        table.add_row(
            outcome.player,
            str(outcome.episode + 1),
            f"{outcome.return_:.2f}",
            f"{outcome.interactions:,}",
            *([success] if reported else []),
            *shares,
        )
    Console(soft_wrap=True, highlight=False).print(table)


def _keep(folder: Path, show: Show, outcomes: Sequence[Outcome]) -> None:
    """Put pictures of every arm beside a study's results, and into its report."""
    from kanbatsu.files.store import StudyFolder
    from kanbatsu.play.strip import strip
    from kanbatsu.report.page import write_report

    study = StudyFolder(folder)
    if not study.holds_study:
        return
    first = {outcome.player: outcome for outcome in outcomes if outcome.episode == 0}
    study.write_pictures(
        [
            {
                "arm": player.name,
                "task": player.run.task,
                "seed": player.run.seed,
                "return": first[player.name].return_,
                "interactions": first[player.name].interactions,
                "image": strip(show.pictures[player.name]),
            }
            for player in show.players
        ]
    )
    say(f"report: {write_report(folder)}")
