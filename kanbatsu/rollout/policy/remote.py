"""A policy in a process of its own: what it does there, the control loop only hears of."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque

import numpy as np

from kanbatsu.rollout.config import CandidateSettings
from kanbatsu.rollout.limits import Finding
from kanbatsu.rollout.policy.ask import Answer, busy, late
from kanbatsu.rollout.policy.wire import (
    ANSWERED,
    LONGEST,
    NOT_STARTED,
    RAISED,
    READY,
    Reply,
    pack_observation,
    unpack_reply,
)


class Remote:
    """The process of a candidate, and the socket to it; nothing here waits but `receive`.

    The process is started here, and again only in `renew`, between episodes: starting takes about a
    millisecond of the calling thread. A crash, a hang (also one in compiled code that keeps
    Python's lock) and any use of memory or standard output stay in that process.

    Args:
        settings: the candidate.
        nice: courtesy of its process, from 0 to 19.

    Raises:
        OSError: A process cannot be started.
    """

    def __init__(self, settings: CandidateSettings, nice: int = 0) -> None:
        self._settings, self._nice, self._restarts = settings, nice, settings.restarts
        self.waiting: deque[tuple[int, float]] = deque()
        """Number of each observation that is not answered yet, and when it was sent."""
        self._number = 0
        self._start()

    def _start(self) -> None:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        module = "kanbatsu.rollout.policy.worker"
        how = (str(theirs.fileno()), self._settings.policy, str(self._nice))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *how, str(self._settings.hang_s)],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # What can be imported here can be imported there.
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        mine.setblocking(False)
        self._socket = mine
        self.waiting.clear()
        self.ready, self.failure = False, None
        self._began = time.perf_counter()

    ready: bool
    """True once the policy is loaded, so that observations can be sent."""
    failure: Finding | None
    """How the process failed: `not_started`, `died` or `hung`, and a sentence; None while it
    works."""

    def send(self, obs: np.ndarray) -> int | None:
        """Hand over a float32 observation `[obs_dim]`; return its number, None where it cannot be.

        It cannot be while the policy is loading, after a failure, and while the socket is full.
        """
        if not self.ready or self.failure is not None:
            return None
        try:
            self._socket.send(pack_observation(self._number + 1, obs))
        except BlockingIOError:
            return None
        except OSError as error:
            self._died(f" ({error})")
            return None
        self._number += 1
        self.waiting.append((self._number, time.perf_counter()))
        return self._number

    def receive(self, timeout_s: float = 0.0) -> Reply | None:
        """Return the next reply; None where none comes within `timeout_s`."""
        if self.failure is not None:
            return None
        if timeout_s > 0.0 and not select.select([self._socket], [], [], timeout_s)[0]:
            return None
        try:
            packet = self._socket.recv(LONGEST)
        except BlockingIOError:
            return None
        except OSError:
            packet = b""
        if not packet:
            self._died()
            return None
        reply = unpack_reply(packet)
        if reply.status == READY:
            self.ready = True
            return self.receive()
        if reply.status == NOT_STARTED:
            self._fail("not_started", reply.text)
            return None
        while self.waiting and self.waiting[0][0] <= reply.number:
            self.waiting.popleft()
        return reply

    def look(self) -> Finding | None:
        """End a process that has hung for longer than allowed; return how it failed, if it has."""
        if self.failure is None and self.waiting:
            seconds = time.perf_counter() - self.waiting[0][1]
            if seconds > self._settings.hang_s:
                self._fail("hung", f"no answer for {seconds:.3g} s: its process was ended")
        return self.failure

    def wait_until_ready(self, seconds: float = 30.0) -> None:
        """Wait until the policy is loaded, has failed, or that has taken too long."""
        until = time.perf_counter() + seconds
        while not self.ready and self.failure is None and time.perf_counter() < until:
            self.receive(0.05)
        if not self.ready and self.failure is None:
            self._fail("not_started", f"the policy was not loaded within {seconds:g} s")

    def renew(self) -> bool:
        """Start again a process that has failed, while restarts are left; say whether it was."""
        if self.failure is None or self._restarts <= 0:
            return False
        self._restarts -= 1
        self.close()
        self._start()
        return True

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)

    def _died(self, why: str = "") -> None:
        code = self._process.poll()
        with_code = "" if code is None else f" with code {code}"
        self._fail("died", f"its process ended{with_code}{why}")

    def _fail(self, name: str, detail: str) -> None:
        self.failure = Finding(name, detail)
        self.ready = False
        self.waiting.clear()
        self._process.kill()


class RemoteAsked:
    """The same process for a control loop that waits for each answer, until the deadline.

    Args:
        remote: the process; this object owns it from now on.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def ask(self, obs: np.ndarray, deadline_s: float) -> Answer:
        """Hand the observation over and wait for its answer."""
        until = time.perf_counter() + deadline_s
        while self._remote.receive() is not None:
            pass  # late answers to earlier observations
        if (failure := self._remote.look()) is not None:
            return Answer(None, None, Finding("raised", f"{failure.trigger}: {failure.detail}"))
        if self._remote.waiting:
            return Answer(None, None, busy())
        number = self._remote.send(obs)
        if number is None:
            failure = self._remote.failure
            why = "its policy is still loading" if failure is None else failure.detail
            return Answer(None, None, Finding("raised", why))
        while (left := until - time.perf_counter()) > 0.0:
            reply = self._remote.receive(left)
            if reply is not None and reply.number == number:
                return _answer(reply)
            if self._remote.failure is not None:
                return Answer(None, None, Finding("raised", self._remote.failure.detail))
        return Answer(None, None, late(deadline_s))

    def renew(self) -> None:
        """Start a process that failed again, and wait until it is ready."""
        self._remote.look()
        if self._remote.renew():
            self._remote.wait_until_ready()

    def close(self) -> None:
        """End the process."""
        self._remote.close()


def _answer(reply: Reply) -> Answer:
    if reply.status == ANSWERED:
        return Answer(reply.action, 1e6 * reply.seconds, None)
    trigger = "raised" if reply.status == RAISED else "action_shape"
    return Answer(None, None, Finding(trigger, reply.text))
