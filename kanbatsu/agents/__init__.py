"""Learning algorithms: one file each, and one table that says what each of them is."""

from __future__ import annotations

from typing import NamedTuple

from kanbatsu.agents.ddpg import DDPG, DDPGConfig
from kanbatsu.agents.drqv2 import DrQv2, DrQv2Config
from kanbatsu.agents.pqn import PQN, PQNConfig
from kanbatsu.agents.sac import SAC, SACConfig
from kanbatsu.agents.schedule import (
    ImageTrainConfig,
    RolloutTrainConfig,
    StreamTrainConfig,
    TrainConfig,
)
from kanbatsu.agents.stream_ac import StreamAC, StreamACConfig
from kanbatsu.agents.stream_q import StreamQ, StreamQConfig

AgentConfig = SACConfig | DDPGConfig | StreamACConfig | StreamQConfig | PQNConfig | DrQv2Config


class AgentEntry(NamedTuple):
    """An algorithm, and all that others need to know of it."""

    agent: type
    """Class of the algorithm, called with a `Spec` and its configuration."""
    config: type
    """Class of the configuration that it reads."""
    schedule: type
    """Class of the schedule that it runs by, which decides how it meets the loops: with a replay
    (`TrainConfig`, or `ImageTrainConfig` for images; a `kanbatsu.types.Agent`), learning from
    rollouts (`RolloutTrainConfig`, such an agent that updates on one rollout), or learning from
    every sample once (`StreamTrainConfig`, a `kanbatsu.agents.streaming.StreamingAgent`)."""
    tanh_of_mean: bool = False
    """Flag of a greedy action that is tanh of the network's mean, which can be exported."""
    discrete: bool = False
    """Flag of an agent that chooses among a few actions, which it then gives one-hot."""
    images: bool = False
    """Flag of an agent that sees images as they are; others see them laid out as vectors, where a
    task has them so."""


AGENTS = {
    "sac": AgentEntry(SAC, SACConfig, TrainConfig, tanh_of_mean=True),
    "ddpg": AgentEntry(DDPG, DDPGConfig, TrainConfig, tanh_of_mean=True),
    "pqn": AgentEntry(PQN, PQNConfig, RolloutTrainConfig, discrete=True, images=True),
    "drqv2": AgentEntry(DrQv2, DrQv2Config, ImageTrainConfig, images=True),
    "stream_ac": AgentEntry(StreamAC, StreamACConfig, StreamTrainConfig),
    "stream_q": AgentEntry(StreamQ, StreamQConfig, StreamTrainConfig, discrete=True),
}
"""Algorithms by the name that users type; tests run those of a kind through one contract."""
