"""Learning algorithms: one file each, all with the functions of `kanbatsu.types.Agent`."""

from __future__ import annotations

from typing import NamedTuple

from kanbatsu.agents.ddpg import DDPG, DDPGConfig
from kanbatsu.agents.sac import SAC, SACConfig

AgentConfig = SACConfig | DDPGConfig


class AgentEntry(NamedTuple):
    """An algorithm and the configuration that it reads."""

    agent: type
    config: type


AGENTS = {"sac": AgentEntry(SAC, SACConfig), "ddpg": AgentEntry(DDPG, DDPGConfig)}
"""Every algorithm by the name that users type; tests run each through the same contract."""
