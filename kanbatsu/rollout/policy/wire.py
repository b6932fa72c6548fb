"""What a control loop and the process of a candidate send each other: one packet per message."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

HEAD = struct.Struct("<QBd")
"""Number of the observation, status, and seconds that the policy computed."""
ANSWERED, RAISED, SHAPE, READY, NOT_STARTED = range(5)
"""Status of a reply; NOT_STARTED and RAISED carry a text, ANSWERED an action."""
LONGEST = 1 << 16
"""Bytes of the longest reply."""
NUMBER = struct.Struct("<Q")


class Reply(NamedTuple):
    """Reply of the process of a candidate."""

    number: int
    """Number of the observation that is answered; 0 where none is."""
    status: int
    """ANSWERED, or what went wrong."""
    seconds: float
    """Seconds that the policy computed."""
    action: np.ndarray | None
    """The action, float64 `[action_dim]`."""
    text: str
    """Sentence about what went wrong."""


def pack_observation(number: int, obs: np.ndarray) -> bytes:
    """Return the packet of a float32 observation `[obs_dim]`.

    Example:
        >>> number, obs = unpack_observation(pack_observation(7, np.ones(2, np.float32)))
        >>> number, obs.tolist()
        (7, [1.0, 1.0])
    """
    return NUMBER.pack(number) + obs.tobytes()


def unpack_observation(packet: bytes) -> tuple[int, np.ndarray]:
    """Return the number and the observation of a packet."""
    obs = np.frombuffer(packet, np.float32, offset=NUMBER.size).copy()  # a policy may write into it
    return NUMBER.unpack_from(packet)[0], obs


def pack_reply(number: int, status: int, seconds: float = 0.0, body: bytes = b"") -> bytes:
    """Return the packet of a reply; an overlong text is cut.

    Example:
        >>> body = np.array([0.5]).tobytes()
        >>> reply = unpack_reply(pack_reply(7, ANSWERED, 0.25, body))
        >>> reply.number, reply.seconds, reply.action.tolist()
        (7, 0.25, [0.5])
    """
    return HEAD.pack(number, status, seconds) + body[: LONGEST - HEAD.size]


def unpack_reply(packet: bytes) -> Reply:
    """Return what a packet says."""
    number, status, seconds = HEAD.unpack_from(packet)
    if status == ANSWERED:
        return Reply(number, status, seconds, np.frombuffer(packet, np.float64, -1, HEAD.size), "")
    return Reply(number, status, seconds, None, packet[HEAD.size :].decode(errors="replace"))
