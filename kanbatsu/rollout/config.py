"""What a rollout is told: the guard's limits, how the candidate runs, each stage's rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kanbatsu.rollout.events import Arm


class RolloutError(ValueError):
    """A rollout that cannot go on as asked; the message says why and what to do."""


@dataclass(frozen=True)
class GuardSettings:
    """Limits of what may reach the actuators, and of when an answer is too late.

    Raises:
        RolloutError: Limits that contradict each other; the message names them.

    Example:
        >>> GuardSettings(obs_dim=3, low=(-2.0,), high=(2.0,), safe_action=(0.0,)).action_dim
        1
        >>> GuardSettings(obs_dim=3, low=(-2.0,), high=(2.0,), safe_action=(5.0,))
        Traceback (most recent call last):
        ...
        kanbatsu.rollout.config.RolloutError: guard.safe_action[0] is 5.0, which is not between \
guard.low (-2.0) and guard.high (2.0)
    """

    obs_dim: int
    """Length of an observation."""
    low: tuple[float, ...]
    """Lowest value of each entry of an action."""
    high: tuple[float, ...]
    """Highest value of each entry of an action."""
    safe_action: tuple[float, ...]
    """Action that is safe whatever is observed: the last resort."""
    slew: tuple[float, ...] = ()
    """Largest change of each entry of an action from one step to the next; none where empty."""
    max_age_s: float = 0.0
    """Seconds after which an observation is stale; 0 for never. Needs the time of observing."""
    deadline_s: float = 0.01
    """Seconds within which the policy must answer."""
    hold: int = 1
    """Steps in a row for which the last safe action is held before the incumbent is asked."""
    on_limit: Literal["clip", "replace"] = "clip"
    """Treatment of an action outside its box or slew rate: clip it, or replace it by a fallback."""

    def __post_init__(self) -> None:
        for name in ("high", "safe_action", *(("slew",) if self.slew else ())):
            if len(getattr(self, name)) != len(self.low):
                raise RolloutError(
                    f"guard.{name} has {len(getattr(self, name))} entries, and guard.low "
                    f"{len(self.low)}: give one for each entry of an action"
                )
        for at, (low, value, high) in enumerate(
            zip(self.low, self.safe_action, self.high, strict=True)
        ):
            if not low < high:
                raise RolloutError(
                    f"guard.low[{at}] is {low}, which is not below guard.high[{at}] ({high})"
                )
            if not low <= value <= high:
                raise RolloutError(
                    f"guard.safe_action[{at}] is {value}, which is not between guard.low ({low}) "
                    f"and guard.high ({high})"
                )
        if any(change <= 0 for change in self.slew):
            raise RolloutError("guard.slew must be positive: leave it empty for no limit")
        if self.deadline_s <= 0 or self.max_age_s < 0 or self.hold < 0 or self.obs_dim < 1:
            raise RolloutError(
                "guard.deadline_s and guard.obs_dim must be positive, and guard.max_age_s and "
                "guard.hold at least 0"
            )

    @property
    def action_dim(self) -> int:
        """Length of an action."""
        return len(self.low)


@dataclass(frozen=True)
class CandidateSettings:
    """Origin of the candidate, and the way in which it runs."""

    policy: str
    """Folder of an exported policy, or package.module:factory, which returns a function of an
    observation."""
    isolation: Literal["process", "thread", "inline"] = "process"
    """Place where the candidate runs once it acts: only a process keeps its crash, and its hang in
    compiled code, from the control loop. In shadow it is always a process."""
    hang_s: float = 1.0
    """Seconds without an answer after which the candidate's process is ended."""
    restarts: int = 3
    """Number of times that a candidate that ended is started again, between episodes."""
    nice: int = 5
    """Courtesy of the candidate's process in shadow towards others, from 0 to 19."""
    queue: int = 8
    """Observations that may wait for the candidate in shadow; further ones are dropped."""
    residual: bool = False
    """Flag of a candidate whose answer is a correction, added to the incumbent's action."""
    correction: tuple[float, ...] = field(default=())
    """Largest correction of each entry of an action, where the candidate is residual."""


@dataclass(frozen=True)
class ShadowRule:
    """Rule of what a candidate must have shown in shadow before a person may let it act."""

    answers: int = 10_000
    """Least number of answers."""
    violation_share: float = 0.0
    """Largest share of answers at which the guard would have acted, for any one trigger."""
    late_share: float = 0.001
    """Largest share of answers that took longer than the guard's deadline."""
    dropped_share: float = 0.01
    """Largest share of observations that the candidate was not shown."""
    failures: int = 0
    """Largest number of failures: crashes, hangs, exceptions, answers that are no actions."""


@dataclass(frozen=True)
class CanaryRule:
    """Rule of how many episodes the candidate acts in, what stops it, and what lets it go on.

    Raises:
        RolloutError: Numbers that contradict each other; the message names them.
    """

    return_low: float
    """Return of an episode below which differences no longer matter: lower ones count as this."""
    return_high: float
    """Return of an episode above which differences no longer matter."""
    worse_by: float
    """Return by which the candidate may be worse and still go on to full service."""
    share: float = 0.1
    """Chance of an episode to be the candidate's."""
    seed: int = 0
    """Seed of the draw of every episode's arm."""
    alpha: float = 0.05
    """Chance at most that a candidate is stopped that is no worse than the incumbent."""
    more_violations: float = 0.05
    """Share of episodes with a violation by which the candidate may exceed the incumbent."""
    episodes: int = 50
    """Least number of the candidate's episodes before it may go on."""

    def __post_init__(self) -> None:
        if not self.return_low < self.return_high:
            raise RolloutError("canary.return_low must be below canary.return_high")
        for name in ("share", "alpha"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise RolloutError(f"canary.{name} must lie between 0 and 1, exclusively")
        if not 0.0 < self.worse_by <= self.return_high - self.return_low:
            raise RolloutError(
                "canary.worse_by must be positive, and at most canary.return_high - return_low: no "
                "number of episodes shows a difference of exactly nothing"
            )
        if not 0.0 < self.more_violations <= 1.0 or self.episodes < 1:
            raise RolloutError(
                "canary.more_violations must be a positive share, and canary.episodes at least 1"
            )


@dataclass(frozen=True)
class DriftSettings:
    """Rule of what is watched for drift, once `kanbatsu rollout calibrate` has found thresholds.

    Raises:
        RolloutError: Numbers that contradict each other; the message names them.
    """

    stages: tuple[Literal["shadow", "canary", "full"], ...] = ("full",)
    """Stages in which there is a watch."""
    arm: Arm = "candidate"
    """Arm whose episodes are watched, and whose samples the watch is calibrated on."""
    alpha: float = 0.05
    """Chance at most of any false alarm within the horizon."""
    horizon: int = 100_000
    """Number of samples that the chance of a false alarm is stated for."""
    window: int = 50
    """Least number of samples in a window; one that depends on the next is made longer."""
    roll_back: bool = False
    """Flag of a watch that rolls back by itself when an alarm comes."""
    record: bool = False
    """Flag of a service that writes every observation and action into its journal: what the watch
    is calibrated on."""
    adwin: bool = False
    """Flag of a second watch, ADWIN, which compares service with its own beginning."""

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0 or self.horizon < 1 or self.window < 1:
            raise RolloutError(
                "drift.alpha must lie between 0 and 1, exclusively, and drift.horizon and "
                "drift.window must be at least 1"
            )
        if self.roll_back and self.arm == "incumbent":
            raise RolloutError(
                "drift.roll_back gives everything to the incumbent, so that a drift of the "
                'incumbent\'s own samples is no reason for it: use drift.arm = "candidate"'
            )


@dataclass(frozen=True)
class RolloutSettings:
    """Everything that a rollout is told: the contents of `rollout.toml`.

    Raises:
        RolloutError: Settings that contradict each other; the message names them.
    """

    candidate: CandidateSettings
    """The policy that is to come into service."""
    guard: GuardSettings
    """Limits of what may reach the actuators."""
    canary: CanaryRule
    """Rule of the second stage."""
    shadow: ShadowRule = field(default_factory=ShadowRule)
    """Rule of the first stage."""
    drift: DriftSettings = field(default_factory=DriftSettings)
    """Rule of the watch over drift."""
    incumbent: str = ""
    """Folder of an exported policy or package.module:factory: what is in use now. Empty where the
    service is given a function."""
    incumbent_follows: bool = True
    """Flag of an incumbent that is asked at every step of the candidate's episodes too, so that
    what it remembers (a PID's integral, say) stays up to date."""
    faulty_episodes: int = 3
    """Episodes in a row with a fault of the candidate after which full service is rolled back."""

    def __post_init__(self) -> None:
        if self.candidate.residual and len(self.candidate.correction) != self.guard.action_dim:
            raise RolloutError(
                f"candidate.correction has {len(self.candidate.correction)} entries, and an action "
                f"{self.guard.action_dim}: a residual candidate needs one bound for each"
            )
