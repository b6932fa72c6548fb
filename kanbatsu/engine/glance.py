"""How far a study is at this moment, read from its files."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from kanbatsu.engine.progress import Pace, RunView, View
from kanbatsu.files.store import StudyFolder
from kanbatsu.files.tail import Tail


class Glance:
    """Follows the results of a study as they grow.

    Args:
        folder: The study's.
        runs: The env steps at which each run ends, by run id.
        missing: Runs that are not finished.
    """

    def __init__(
        self, folder: StudyFolder, runs: Mapping[str, int], missing: Collection[str]
    ) -> None:
        self.finished = set(runs) - set(missing)
        """Run ids; whoever learns that a run has ended adds it."""
        self.failed: set[str] = set()
        self._runs = runs
        self._tails = {run_id: Tail(folder.run_folder(run_id).path) for run_id in missing}
        for tail in self._tails.values():
            tail.read()
        self._pace = Pace()

    def tail(self, run_id: str) -> Tail:
        """Return what a run that was missing says last, brought up to date."""
        self._tails[run_id].read()
        return self._tails[run_id]

    def view(self, running: Collection[str], stopped: int = 0, waiting: int = 0) -> View:
        """Read what is new of the runs that go on.

        Args:
            running: Run ids; those that wait for their turn somewhere may be among them.
            stopped: Runs that were begun, but that nobody works on.
            waiting: Runs that were not begun.
        """
        tails = {run_id: self.tail(run_id) for run_id in running}
        over = self.finished | self.failed
        reached = {
            run_id: each if run_id in over else min(self._tails[run_id].env_steps, each)
            for run_id, each in self._runs.items()
        }
        of, done = sum(self._runs.values()), sum(reached.values())
        speed = self._pace.measure(time.monotonic(), done)
        return View(
            runs=len(self._runs),
            finished=len(self.finished),
            failed=len(self.failed),
            env_steps=max(self._runs.values()),
            share=done / of,
            env_steps_per_second=speed,
            seconds_left=(of - done) / speed if speed else None,
            running=tuple(
                RunView(run_id, reached[run_id], tail.latest_return, tail.warning)
                for run_id, tail in tails.items()
                if tail.begun
            ),
            stopped=stopped,
            waiting=waiting,
        )
