"""Work for every member: in order, in threads where it is long, and no error is lost."""

import threading
import time

import pytest

from kanbatsu.train import threads as module
from kanbatsu.train.threads import Threads


def who(member: int) -> tuple[int, int]:
    time.sleep(2 * module.HANDOVER_SECONDS)
    return member, threading.get_ident()


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: [0, 1])


def test_long_work_moves_to_threads_after_one_call(two_cores: None) -> None:
    with Threads(3) as threads:
        first, second = threads.map(who), threads.map(who)
    assert [member for member, _ in first] == [member for member, _ in second] == [0, 1, 2]
    assert {thread for _, thread in first} == {threading.get_ident()}
    assert threading.get_ident() not in {thread for _, thread in second}


def test_short_work_stays_here(two_cores: None) -> None:
    with Threads(3) as threads:
        for _ in range(3):
            assert threads.map(lambda _: threading.get_ident()) == [threading.get_ident()] * 3


def test_one_core_needs_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: [0])
    with Threads(2) as threads:
        for _ in range(2):
            assert {thread for _, thread in threads.map(who)} == {threading.get_ident()}


def test_an_error_is_raised_from_a_thread_too(two_cores: None) -> None:
    def fail(member: int) -> None:
        raise ValueError(f"member {member}")

    with Threads(2) as threads:
        with pytest.raises(ValueError, match="member 0"):
            threads.map(fail)
        threads.map(who)
        with pytest.raises(ValueError, match="member 0"):
            threads.map(fail)
