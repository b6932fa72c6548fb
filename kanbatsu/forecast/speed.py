"""How long a run takes and what it needs, from the times that a short run of it wrote down."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kanbatsu.agents.schedule import ImageTrainConfig
from kanbatsu.envs.pixels import FRAMES
from kanbatsu.run.operations import turns
from kanbatsu.types import Spec

LEAST_SPREAD = 0.15
"""Relative uncertainty of a speed, however steady a short run was: longer ones differ."""

EXTERNAL_SPREAD = 0.5
"""Relative uncertainty of the speed of a training that kanbatsu does not see into: a buffer that
fills up, or updates that begin late, make it slower than its beginning."""


@dataclass(frozen=True)
class Speed:
    """What one arm costs on one task with so many workers beside each other; seconds, bytes."""

    start: float
    """Seconds of a run that do not grow with it: its process, compilation."""
    interaction: float
    """Seconds per decision, without learning."""
    update: float
    """Seconds per update."""
    decision: float
    """Seconds per decision of an evaluation."""
    probe: float
    """Seconds per probe."""
    spread: float
    """Relative uncertainty of all these."""
    memory: int
    """Peak bytes of the process, with an empty replay."""
    checkpoint: int
    """Bytes of networks and optimizer on disk."""
    line: float
    """Bytes of results per env step."""
    obs_dim: int
    action_dim: int
    action_repeat: int
    short_episode: float
    """Decisions of an episode of the short run."""
    long_episode: float
    """Decisions of an episode that the time limit ends; as `short_episode` where there is none."""

    def seconds(self, agent: str, train: Any, env_steps: int) -> tuple[float, float, float]:
        """Return how long a run takes: at least, expected, at most.

        Args:
            agent: Name of the algorithm.
            train: Schedule of the run.
            env_steps: Env steps at which it ends.
        """
        turn = turns(env_steps, train, self.action_repeat)
        interactions, updates = train.counts(turn)
        learning = self.interaction * interactions + self.update * updates
        learning += self.probe * (env_steps // train.probe_every + 1)
        episodes = (env_steps // train.evaluate_every + 2) * train.evaluation_episodes
        short, long = (
            self.decision * episodes * n for n in (self.short_episode, self.long_episode)
        )
        low, high = (self.start + learning + evaluating for evaluating in (short, long))
        # Agents that learn make episodes longer on some tasks and shorter on others.
        return low / (1 + self.spread), (low + high) / 2, high * (1 + self.spread)

    def replay_bytes(self, train: Any, env_steps: int) -> int:
        """Return what the replay holds at the end of a run."""
        stored = min(
            turns(env_steps, train, self.action_repeat) * train.environments,
            train.replay_capacity,
        )
        seen = 4 * 2 * self.obs_dim
        if isinstance(train, ImageTrainConfig):  # a frame of bytes, and two numbers of frames
            seen = self.obs_dim // FRAMES + 2 * 8
        return stored * (seen + 4 * (self.action_dim + 1) + 2)


def speed(
    lines: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
    train: Any,
    spec: Spec,
    action_repeat: int,
    checkpoint: int,
) -> Speed:
    """Read a speed off a finished run.

    The first stretch with learning in it holds the compilation and counts as start; speeds are
    those of the stretches after it.

    Args:
        lines: Lines of its `timing.jsonl`.
        results: Lines of its `metrics.jsonl`.
        train: Its schedule.
        spec: Sizes of its task.
        action_repeat: Env steps per decision.
        checkpoint: Bytes of its last checkpoint.

    Raises:
        ValueError: The run was too short to time.
    """
    learning = [line for line in lines if line["updates"] > 0]
    if len(learning) < 3:
        raise ValueError("the run was too short to time: it needs three stretches of learning")
    stretches = list(itertools.pairwise(learning))

    def spent(line: Mapping[str, Any], kind: str) -> float:
        return line.get(f"{kind}_seconds", 0.0)

    def turn_seconds(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
        apart = sum(spent(b, kind) - spent(a, kind) for kind in ("evaluation", "probe"))
        return (b["seconds"] - a["seconds"] - apart) / (b["env_steps"] - a["env_steps"])

    first, last = learning[0], learning[-1]
    each = [turn_seconds(a, b) for a, b in stretches]
    per_env_step = sum(each) / len(each)
    deviation = math.sqrt(sum((x - per_env_step) ** 2 for x in each) / max(len(each) - 1, 1))
    updates = last["updates"] - first["updates"]
    update = (spent(last, "update") - spent(first, "update")) / updates
    per_turn = action_repeat * train.environments
    decisions = (last["env_steps"] - first["env_steps"]) / action_repeat
    interaction = max(per_env_step * action_repeat - update * updates / decisions, 1e-7)

    evaluations = [record for record in results if record["kind"] == "evaluation"]
    lengths = [sum(record["lengths"]) for record in evaluations]
    rising = [spent(b, "evaluation") - spent(a, "evaluation") for a, b in stretches]
    decision = max(rising) / max(lengths[-1], 1)
    probing = [spent(b, "probe") - spent(a, "probe") for a, b in stretches]
    short = sum(lengths) / sum(len(record["lengths"]) for record in evaluations)
    learned = interaction * (last["env_steps"] / action_repeat) + update * last["updates"]
    counted = learned + decision * sum(lengths) + max(probing) * sum(x > 0 for x in probing)
    return Speed(
        start=max(last["seconds"] - counted, 0.0),
        interaction=interaction,
        update=update,
        decision=decision,
        probe=max(probing),
        spread=max(2 * deviation / per_env_step / math.sqrt(len(each)), LEAST_SPREAD),
        memory=max(line.get("peak_resident_bytes", 0) for line in lines),
        checkpoint=checkpoint,
        line=len(str(results)) / max(last["env_steps"], per_turn),
        obs_dim=spec.obs_dim,
        action_dim=spec.action_dim,
        action_repeat=action_repeat,
        short_episode=short,
        long_episode=float(max(spec.episode_length or short, short)),
    )


def external_speed(lines: Sequence[Mapping[str, Any]]) -> Speed:
    """Read the speed of a training by somebody else's function off a short one of it.

    What it does before its first result counts as start, where it gave several.

    Args:
        lines: Lines of its `timing.jsonl`.
    """
    first, last = lines[0], lines[-1]
    steps = last["env_steps"] - first["env_steps"]
    each = (last["seconds"] - first["seconds"]) / steps if steps else 0.0
    if each <= 0.0:
        each = last["seconds"] / last["env_steps"]
    return _speed(lines, max(last["seconds"] - each * last["env_steps"], 0.0), each)


def fixed_speed(lines: Sequence[Mapping[str, Any]]) -> Speed:
    """Read the speed of what takes equally long however many env steps are asked for.

    Args:
        lines: Lines of its `timing.jsonl`.
    """
    return _speed(lines, lines[-1]["seconds"], 0.0)


def _speed(lines: Sequence[Mapping[str, Any]], start: float, each: float) -> Speed:
    """Return a speed of which only the seconds at the start and per env step are known."""
    return Speed(
        start=start,
        interaction=each,
        update=0.0,
        decision=0.0,
        probe=0.0,
        spread=EXTERNAL_SPREAD,
        memory=max(line.get("peak_resident_bytes", 0) for line in lines),
        checkpoint=0,
        line=0.0,
        obs_dim=0,
        action_dim=0,
        action_repeat=1,
        short_episode=0.0,
        long_episode=0.0,
    )
