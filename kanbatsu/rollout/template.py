"""The settings of a new rollout: a commented file, with what the candidate's own files know."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kanbatsu.rollout.config import RolloutError
from kanbatsu.rollout.policy.load import load_policy
from kanbatsu.rollout.residual import trained_residual

TEMPLATE = """\
# A rollout: from shadow over canary to full service. Every setting: docs/rollout.md.
# Lines that begin with "# !" must be given before the rollout can begin.

# What is in use now: package.module:factory or the folder of an older policy. Leave it out where
# the service is given a function.
{incumbent}

[candidate]
policy = {policy}
# Where it runs once it acts: only a process keeps its crash and its hang from the control loop.
isolation = "process"
# The candidate's answer is a correction of the incumbent's action, bounded for each entry.
{residual}

[guard]
{limits}
# Largest change of each entry from one step to the next; leave it out for none.
# slew = [0.2]
# Observations older than this are not used; they need their time (act(..., observed_at=...)).
# max_age_s = 0.05
deadline_s = 0.01

[shadow]
answers = 10_000

[canary]
# Returns of an episode outside these two count as these: choose them by the incumbent's own.
# ! return_low = -200.0
# ! return_high = 0.0
# The candidate may go on if it returns at most this much less than the incumbent.
# ! worse_by = 5.0
share = 0.1
alpha = 0.05
episodes = 50

[drift]
# Observations and actions go to the journal: what `kanbatsu rollout calibrate` finds thresholds on,
# before full service.
record = true
# Chance at most of any false alarm within so many samples.
alpha = 0.05
horizon = 100_000
"""


def write_template(path: Path, candidate: str, incumbent: str) -> None:
    """Write the settings of a rollout of one candidate, for a person to complete.

    Of a policy that was trained to correct a rule, the rule is the incumbent, and limits are those
    of the actuators, not those of the correction.

    Args:
        path: the file; one that is there is refused.
        candidate: folder of an exported policy, or package.module:factory.
        incumbent: likewise; where it is empty, the rule that the candidate was trained to correct,
            or none: then the service is given a function.

    Raises:
        RolloutError: The candidate or the incumbent cannot be loaded, or the file exists.
    """
    if path.exists():
        raise RolloutError(f"{path} exists already")
    policy: Any = load_policy(candidate)
    trained = trained_residual(candidate)
    if trained is not None and not incumbent:
        incumbent = trained["policy"]
    if incumbent:
        load_policy(incumbent)
    limits = [
        "# ! obs_dim = 3",
        "# ! low = [-1.0]",
        "# ! high = [1.0]",
        "# An action that is safe whatever is observed.",
        "# ! safe_action = [0.0]",
    ]
    if hasattr(policy, "obs_dim"):
        ends = {name: getattr(policy, name).tolist() for name in ("low", "high")}
        low, high = (_list(name, (trained or ends)[name]) for name in ends)
        limits[:3] = (f"obs_dim = {policy.obs_dim}", low, high)
    text = TEMPLATE.format(
        incumbent=f"incumbent = {json.dumps(incumbent)}" if incumbent else '# incumbent = ""',
        policy=json.dumps(candidate),
        residual="# residual = true\n# correction = [0.1]"
        if trained is None
        else f"residual = true\n{_list('correction', trained['correction'])}",
        limits="\n".join(limits),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x") as file:
        file.write(text)


def _list(name: str, values: Sequence[float]) -> str:
    return f"{name} = [{', '.join(map(repr, values))}]"
