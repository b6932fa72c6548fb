"""The candidate that acts: in the place that its settings name, as a correction where it is one."""

from __future__ import annotations

from kanbatsu.rollout.ask import Asked, Inline, Threaded
from kanbatsu.rollout.config import CandidateSettings
from kanbatsu.rollout.load import load_policy
from kanbatsu.rollout.remote import Remote, RemoteAsked
from kanbatsu.rollout.residual import Once, Residual


def start_candidate(settings: CandidateSettings, incumbent: Once) -> Asked:
    """Start the candidate, and wait until it can answer.

    Args:
        settings: where it comes from and where it runs.
        incumbent: what a residual candidate corrects.

    Raises:
        kanbatsu.rollout.config.RolloutError: It cannot be loaded.
        OSError: Its process cannot be started.
    """
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
        return Residual(asked, incumbent, settings.correction)
    return asked
