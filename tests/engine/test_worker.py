"""Workers: what they may use, what they tell, and how they end."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from kanbatsu.engine.worker import Worker, is_preparing, shares
from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import to_dict
from kanbatsu.machine import usable_cores
from kanbatsu.study.plan import Study


def wait(worker: Worker, until: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, worker.printed()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("cores", "workers", "expected"),
    [
        ([0, 1], 1, [[0, 1]]),
        ([0, 1], 2, [[0], [1]]),
        ([4, 5, 6, 7], 3, [[4, 5], [6], [7]]),
        ([0, 1, 2], 5, [[0], [1], [2], [0], [1]]),
    ],
)
def test_cores_are_shared_out(cores: list[int], workers: int, expected: list[list[int]]) -> None:
    assert shares(cores, workers) == expected


def test_shares_use_every_core_once() -> None:
    for count in range(1, 20):
        for workers in range(1, count + 1):
            divided = shares(range(count), workers)
            assert [core for share in divided for core in share] == list(range(count))
            assert max(map(len, divided)) - min(map(len, divided)) <= 1


def test_a_worker_reports_and_ends_with_the_engine(
    tasks: Path, make_tiny_study: Callable[..., Study]
) -> None:
    (planned,) = make_tiny_study(("tricky:slow",)).runs()
    endless = to_dict(planned.run) | {"env_steps": 1_000_000}
    before = os.sched_getaffinity(0)
    core = usable_cores()[-1]
    worker = Worker({tasks / "run": endless}, [core], dict(os.environ))
    try:
        assert os.sched_getaffinity(0) == before
        assert os.sched_getaffinity(worker.pid) == {core}
        assert worker.env_steps is None
        wait(worker, lambda: worker.poll() is not None or bool(worker.env_steps))
        assert worker.poll() is None
        # Threads that libraries made are bound to the same core.
        threads = [int(path.name) for path in Path(f"/proc/{worker.pid}/task").iterdir()]
        assert {core} == set().union(*(os.sched_getaffinity(thread) for thread in threads))
        worker.hang_up()
        wait(worker, lambda: worker.poll() is not None, seconds=10.0)
        assert worker.poll() == 1
    finally:
        worker.terminate()
        worker.wait()
    assert (RunFolder(tasks / "run").read_status() or {})["state"] == "running"


def test_a_worker_that_cannot_start_says_why(tasks: Path) -> None:
    worker = Worker({tasks / "run": {"agent": "ppo"}}, usable_cores(), dict(os.environ))
    wait(worker, lambda: worker.poll() is not None)
    assert worker.poll() == 1
    assert worker.error is None
    assert "KeyError: 'ppo'" in worker.printed()
    worker.close()


def test_a_thread_that_compiles_is_seen_from_another_and_one_that_waits_is_not() -> None:
    compiled, done = threading.Event(), threading.Event()

    def run() -> None:
        x = jnp.ones(3)
        for length in range(1, 200):  # new programs until it was seen
            if done.is_set():
                break
            jax.jit(lambda x, length=length: sum([jnp.sin(x * n) for n in range(length)]))(x)
        compiled.set()
        done.wait()
        time.sleep(5.0)

    thread = threading.Thread(target=run)
    thread.start()
    assert thread.ident is not None
    deadline = time.monotonic() + 60.0
    while not is_preparing(thread.ident):
        assert time.monotonic() < deadline
        assert not compiled.is_set()
    done.set()
    assert compiled.wait(60.0)
    time.sleep(0.5)
    assert thread.is_alive()
    assert not is_preparing(thread.ident)
    thread.join()
