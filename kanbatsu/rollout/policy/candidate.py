"""The candidate that acts: in the place that its settings name, as a correction where it is one."""

from __future__ import annotations

from kanbatsu.rollout.config import RolloutSettings
from kanbatsu.rollout.policy.ask import Asked, Inline, Threaded
from kanbatsu.rollout.policy.load import load_policy
from kanbatsu.rollout.policy.remote import Remote, RemoteAsked
from kanbatsu.rollout.residual import Add, Once, Residual


def start_candidate(rollout: RolloutSettings, incumbent: Once) -> Asked:
    """Start the candidate, and wait until it can answer.

    Args:
        rollout: where it comes from, where it runs, and the limits of its actuators.
        incumbent: what a residual candidate corrects.

    Raises:
        kanbatsu.rollout.config.RolloutError: It cannot be loaded.
        OSError: Its process cannot be started.
    """
    settings, guard = rollout.candidate, rollout.guard
    asked: Asked
    if settings.isolation == "process":
        remote = Remote(settings)
        remote.wait_until_ready()
        asked = RemoteAsked(remote)
    elif settings.isolation == "thread":
        asked = Threaded(load_policy(settings.policy), settings.restarts)
    else:
        asked = Inline(load_policy(settings.policy))
    if settings.residual:
        return Residual(asked, incumbent, Add(settings.correction, guard.low, guard.high))
    return asked
