"""From a verdict to service by stages: guard, shadow, canary, and a record of every change.

Importing this package needs numpy only, as the control loop does.
"""

from kanbatsu.rollout.config import GuardSettings, RolloutError, RolloutSettings
from kanbatsu.rollout.guard import Guard
from kanbatsu.rollout.service import Service
from kanbatsu.rollout.stages import Rollout

__all__ = ["Guard", "GuardSettings", "Rollout", "RolloutError", "RolloutSettings", "Service"]
