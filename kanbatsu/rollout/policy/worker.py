"""The process of a candidate: it loads one policy and answers one observation after the other.

    python -m kanbatsu.rollout.policy.worker SOCKET POLICY NICE HANG_SECONDS

`kanbatsu.rollout.policy.remote` starts it. Whoever started it may die at any moment, even while the
policy hangs: an alarm of the system, which needs no Python, then ends the process.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from kanbatsu.rollout.config import RolloutError
from kanbatsu.rollout.policy.load import load_policy
from kanbatsu.rollout.policy.wire import (
    ANSWERED,
    LONGEST,
    NOT_STARTED,
    RAISED,
    READY,
    SHAPE,
    pack_reply,
    unpack_observation,
)


def main(words: list[str]) -> None:
    """Load the policy, say so, and answer until the other end is closed."""
    descriptor, name, nice, hang_seconds = words
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started this
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.nice(int(nice))
    with socket.socket(fileno=int(descriptor)) as connection:
        try:
            policy = load_policy(name)
        except RolloutError as error:
            connection.send(pack_reply(0, NOT_STARTED, body=str(error).encode()))
            return
        connection.send(pack_reply(0, READY))
        while packet := connection.recv(LONGEST * 16):
            signal.setitimer(signal.ITIMER_REAL, 2 * float(hang_seconds))
            reply = answer(policy, packet)
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            connection.send(reply)


def answer(policy: Callable[[Any], Any], packet: bytes) -> bytes:
    """Return the reply to an observation.

    Example:
        >>> from kanbatsu.rollout.policy.wire import pack_observation, unpack_reply
        >>> question = pack_observation(1, np.ones(2, np.float32))
        >>> unpack_reply(answer(lambda obs: 2 * obs, question)).action.tolist()
        [2.0, 2.0]
        >>> unpack_reply(answer(lambda obs: obs[9], question)).text
        'IndexError: index 9 is out of bounds for axis 0 with size 2'
    """
    number, obs = unpack_observation(packet)
    began = time.perf_counter()
    try:
        action = policy(obs)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return pack_reply(number, RAISED, time.perf_counter() - began, text.encode())
    seconds = time.perf_counter() - began
    try:
        numbers = np.asarray(action, np.float64)
    except (TypeError, ValueError):
        return pack_reply(number, SHAPE, seconds, f"{type(action).__name__}, not numbers".encode())
    if numbers.ndim != 1 or numbers.nbytes > LONGEST // 2:
        return pack_reply(number, SHAPE, seconds, f"shape {list(numbers.shape)}".encode())
    return pack_reply(number, ANSWERED, seconds, numbers.tobytes())


if __name__ == "__main__":
    main(sys.argv[1:])
