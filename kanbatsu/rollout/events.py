"""What is said of everything that happens in service: flat records, given to a sink.

An event is a flat dict of JSON values (lists hold numbers or strings; one key, `numbers`, holds a
table of numbers). Each has a `kind` and a `time`, seconds since 1970 as `time.time()` gives them. A
number that is not finite is None. A sink is any function of one event, such as a list's `append`.

action: one in `action_every` steps, and every step at which the guard found something.
    source      "candidate", "incumbent" or "fallback": where the action came from
    latency_us  microseconds that the policy took; None where it gave no answer
    guard       name of the first trigger at this step, or None
    steps       how many steps this event stands for: those since the event before, itself included
guard: every trigger, when it fires.
    trigger     one of TRIGGERS
    detail      a sentence
    source      where the action came from that was taken at this step
    count       how often this trigger has fired in this process
shadow: one in `shadow_every` answers of the candidate, and every failure.
    difference  candidate less incumbent, one number per dimension of the action; None at a failure
    candidate_latency_us  microseconds that the candidate took; None at a failure
    would_violate  names among TRIGGERS that the guard would have fired; may be empty
    failure     one of FAILURES, or None
    detail      a sentence about the failure; empty without one
    answers     how many answers there were so far
    dropped     how many observations were not shown to the candidate so far: its queue was full
episode: when an episode ends.
    arm         "incumbent" or "candidate"
    number      of the episode in this rollout, from 0
    return      sum of its rewards
    violations  how many violations were reported or found by the guard, 0 or more
    steps       actions taken
    stage       one of STAGES
gate: when the numbers of a stage are held against its rule.
    stage       one of STAGES
    numbers     table of numbers by name
    rule        the rule, as a sentence
    passed      true where a person may advance
    harm        true where the rule says to roll back
stage: every change of stage.
    from        one of STAGES, or None at the beginning
    to          one of STAGES
    reason      a sentence
    by          the person who did it, or "kanbatsu" where a rule did
samples: observations and actions of successive steps, where `drift.record` is true.
    arm         whose episode it was
    stage       one of STAGES
    observations  rows of numbers, one row for each step
    actions     rows of numbers, as they were taken
drift: one in 20 windows of a watch over drift.
    shift, mahalanobis, saturation  highest sum of each statistic, as a share of its threshold
    shift_feature, mahalanobis_feature, saturation_feature  the feature that has it
    samples     how many samples the watch has seen
alarm: when a watch over drift raises an alarm, and when it ends.
    statistic   "shift", "mahalanobis", "saturation" or "adwin"
    feature     name of the feature or of the entry of an action
    direction   "up" or "down"
    on          true when it begins, false when it ends
    value, threshold  the sum, and what it crossed; None for ADWIN's
    samples     how many samples the watch has seen
journal: when events were lost, or half a line was cut off.
    detail      a sentence
    dropped     how many events found the queue full; absent otherwise
    cut         bytes that were cut off; absent otherwise
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from kanbatsu.files.disk import finite

Sink = Callable[[Mapping[str, Any]], None]
"""What takes events."""

Arm = Literal["incumbent", "candidate"]
"""Which policy an episode belongs to."""

Source = Literal["incumbent", "candidate", "fallback"]
"""Where an action came from."""

STAGES = ("shadow", "canary", "full", "rolled_back")
"""Stages of a rollout, as files and events name them."""

KINDS = (
    "action",
    "guard",
    "shadow",
    "episode",
    "gate",
    "stage",
    "samples",
    "drift",
    "alarm",
    "journal",
)
"""Kinds of events that this room gives."""

TRIGGERS = {
    "observation_shape": "an observation of another shape, or not of numbers",
    "observation_not_finite": "a NaN or an infinity in an observation",
    "observation_stale": "an observation older than allowed",
    "action_shape": "an action of another shape, or not of numbers",
    "action_not_finite": "a NaN or an infinity in an action",
    "action_box": "an action outside its bounds",
    "action_slew": "an action that moved further in one step than allowed",
    "deadline": "no answer in time",
    "raised": "an exception of the policy",
    "incumbent_failed": "an incumbent that gave no usable action when it was the fallback",
}
"""What a guard can find, and what it means."""

FAILURES = {
    "not_started": "a candidate that could not be loaded",
    "died": "a process that ended by itself",
    "hung": "no answer for longer than allowed; the process is then ended",
    "raised": "an exception of the candidate",
    "shape": "an action of another shape, or not of numbers",
    "not_finite": "a NaN or an infinity in an action",
}
"""What can go wrong with a candidate in shadow, and what it means."""


def event(kind: str, **values: Any) -> dict[str, Any]:
    """Return an event of this moment.

    Args:
        kind: one of KINDS.
        **values: its further keys; a number that is not finite becomes None, a tuple a list.

    Example:
        >>> made = event("action", source="candidate", latency_us=float("nan"), guard=None)
        >>> made["kind"], made["latency_us"]
        ('action', None)
    """
    return {"kind": kind, "time": time.time(), **finite(values)}


def silent(record: Mapping[str, Any]) -> None:
    """Take an event and do nothing with it: the sink of a service that nobody records."""
