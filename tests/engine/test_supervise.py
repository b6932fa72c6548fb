"""One run carried through: a death is repaired, and a hang becomes a failure that says where."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kanbatsu.engine.supervise import Order, RunEnd, Supervised
from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import to_dict
from kanbatsu.machine import usable_cores
from kanbatsu.study.plan import Study


def carry(study: Study, tasks: Path, **more: Any) -> tuple[RunEnd, list[str], RunFolder]:
    (planned,) = study.runs()
    order = Order({str(tasks / "run"): to_dict(planned.run)}, str(tasks), **more)
    supervised = Supervised(order, usable_cores()[:1], dict(os.environ))
    deadline = time.monotonic() + 120.0
    try:
        while (outcome := supervised.poll()) is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    except BaseException:
        supervised.stop()
        supervised.wait()
        raise
    return outcome, supervised.warnings, RunFolder(tasks / "run")


def test_a_worker_that_died_is_started_again(
    tasks: Path, make_tiny_study: Callable[..., Study]
) -> None:
    outcome, warnings, run = carry(make_tiny_study(("tricky:dies_once",)), tasks)
    assert outcome == RunEnd(None)
    assert run.finished
    (warning,) = warnings
    assert warning.startswith("worker was killed by signal 9 (SIGKILL)")
    assert warning.endswith("starting it again (1 of 2)")


def test_a_run_that_was_finished_stays_so_whatever_its_worker_dies_of_afterwards(
    tasks: Path, make_tiny_study: Callable[..., Study]
) -> None:
    outcome, warnings, run = carry(make_tiny_study(("tricky:dies_at_the_end",)), tasks)
    assert outcome == RunEnd(None)
    assert run.finished
    assert warnings == []


def test_a_run_that_hangs_is_stored_as_failed_and_says_where(
    tasks: Path, make_tiny_study: Callable[..., Study]
) -> None:
    study = make_tiny_study(("tricky:hangs",))
    outcome, warnings, run = carry(study, tasks, timeout_seconds=8.0)
    assert outcome.error is not None
    assert outcome.error.startswith("no progress for 8 seconds, before its first step")
    assert not warnings
    status = run.read_status() or {}
    assert status["state"] == "failed"
    assert status["error"] == outcome.error
    assert "tricky.py" in status["traceback"]
    assert "in hang" in status["traceback"]
    # Repaired, it continues.
    (tasks / "repaired").touch()
    outcome, _, run = carry(study, tasks)
    assert outcome == RunEnd(None)
