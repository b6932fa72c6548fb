"""Learning algorithms: one file each, with a replay or from a stream."""

from __future__ import annotations

from typing import NamedTuple

from kanbatsu.agents.ddpg import DDPG, DDPGConfig
from kanbatsu.agents.sac import SAC, SACConfig
from kanbatsu.agents.stream_ac import StreamAC, StreamACConfig
from kanbatsu.agents.stream_q import StreamQ, StreamQConfig

AgentConfig = SACConfig | DDPGConfig | StreamACConfig | StreamQConfig


class AgentEntry(NamedTuple):
    """An algorithm and the configuration that it reads."""

    agent: type
    config: type
    discrete: bool = False
    """Whether it chooses among a few actions, which it then gives one-hot."""


AGENTS = {"sac": AgentEntry(SAC, SACConfig), "ddpg": AgentEntry(DDPG, DDPGConfig)}
"""Algorithms with a replay, by the name that users type; tests run each through one contract."""

STREAMING = {
    "stream_ac": AgentEntry(StreamAC, StreamACConfig),
    "stream_q": AgentEntry(StreamQ, StreamQConfig, discrete=True),
}
"""Algorithms that learn from every sample once (`kanbatsu.agents.streaming.StreamingAgent`)."""

EVERY = AGENTS | STREAMING
