"""What the user of a policy must know beside its weights: the contract of a bundle."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONTRACT = "contract.json"


@dataclass(frozen=True)
class Contract:
    """What whoever exports a policy knows of it; what nobody knows stays None, and absent.

    Example:
        >>> given = Contract(action_names=("torque",), action_units=("N m",), control_period=0.05)
        >>> given.over(Contract(control_period=0.1, licence="MIT")).control_period
        0.05
    """

    observation_names: tuple[str, ...] | None = None
    """Names of the entries of an observation, in their order."""
    observation_units: tuple[str, ...] | None = None
    """Units of the entries of an observation, in their order."""
    observation_low: tuple[float, ...] | None = None
    """Lowest value of each entry of an observation."""
    observation_high: tuple[float, ...] | None = None
    """Highest value of each entry of an observation."""
    observation_parts: tuple[str, ...] | None = None
    """Names of the arrays of a dictionary that are laid end to end, in their order."""
    observation_lengths: tuple[int, ...] | None = None
    """Lengths of these arrays, in the same order."""
    action_names: tuple[str, ...] | None = None
    """Names of the entries of an action, in their order."""
    action_units: tuple[str, ...] | None = None
    """Units of the entries of an action, in their order."""
    control_period: float | None = None
    """Seconds from one action to the next."""
    action_repeat: int | None = None
    """Env steps for which one action is held."""
    licence: str | None = None
    """Licence under which the policy may be used."""
    verdict: str | None = None
    """Verdict of the study or the proof of concept that the policy comes from."""
    run_id: str | None = None
    """Name of the run that trained the policy."""
    record_sha256: str | None = None
    """Checksum of that run's record."""
    commit: str | None = None
    """Commit of the code that trained the policy."""

    def over(self, known: Contract) -> Contract:
        """Return this contract, with what it does not say taken from another.

        Args:
            known: contract that fills the gaps.
        """
        return dataclasses.replace(known, **{k: v for k, v in vars(self).items() if v is not None})


@dataclass(frozen=True)
class Image:
    """Shape and type of an observation that is an image, or of several on top of each other."""

    shape: tuple[int, ...]
    """Sizes of the three axes, in the order in which the environment gives them."""
    dtype: str = "uint8"
    """Type of a pixel: uint8, in [0, 255], or float32."""
    channels_first: bool = False
    """Flag of an image whose first axis is that of the channels, and not its last."""


@dataclass(frozen=True)
class Moments:
    """Mean and spread of the observations that a policy was trained on."""

    source: str
    """Place that they come from, such as the replay or the normaliser."""
    count: float
    """Number of observations that they were taken over."""
    mean: np.ndarray
    sd: np.ndarray

    @classmethod
    def of(cls, source: str, observations: np.ndarray) -> Moments:
        """Take the moments of observations, `[count, obs_dim]`.

        Example:
            >>> Moments.of("replay", np.array([[1.0], [3.0]])).mean
            array([2.])
        """
        flat = np.asarray(observations, np.float64).reshape(len(observations), -1)
        return cls(source, float(len(flat)), flat.mean(axis=0), flat.std(axis=0))

    def table(self) -> dict[str, Any]:
        """Return the moments as JSON."""
        return {
            "source": self.source,
            "count": float(self.count),
            "mean": np.asarray(self.mean, float).tolist(),
            "sd": np.asarray(self.sd, float).tolist(),
        }


def side(
    what: str,
    size: int,
    *,
    names: Sequence[str] | None,
    units: Sequence[str] | None,
    low: Sequence[float] | np.ndarray | None,
    high: Sequence[float] | np.ndarray | None,
) -> dict[str, Any]:
    """Return the part of a contract on observations, or on actions, as JSON.

    Args:
        what: word for it in messages, `observation` or `action`.
        size: number of entries.
        names: names of the entries; no two are alike.
        units: units of the entries.
        low: lowest values; one that is not finite is none.
        high: highest values likewise.

    Raises:
        ValueError: a list has another length, or a name comes twice.

    Example:
        >>> side("action", 1, names=["force"], units=None, low=[-np.inf], high=[2.0])["high"]
        [2.0]
        >>> side("action", 2, names=["force"], units=None, low=None, high=None)
        Traceback (most recent call last):
        ...
        ValueError: action_names has length 1, and an action has 2 entries
    """
    lists = {"names": names, "units": units, "low": low, "high": high}
    for name, values in lists.items():
        if values is not None and len(values) != size:
            entries = "1 entry" if size == 1 else f"{size} entries"
            raise ValueError(f"{what}_{name} has length {len(values)}, and an {what} has {entries}")
    if names is not None and len(set(names)) < size:
        twice = sorted({name for name in names if list(names).count(name) > 1})
        raise ValueError(f"{what}_names holds {', '.join(twice)} more than once")
    return {
        "size": size,
        "names": None if names is None else list(names),
        "units": None if units is None else list(units),
        "low": finite_or_none(low),
        "high": finite_or_none(high),
    }


def finite_or_none(values: Sequence[float] | np.ndarray | None) -> list[float | None] | None:
    """Return numbers for JSON: None for one that is not finite, and for all if none is.

    Example:
        >>> finite_or_none([1.0, float("inf")]), finite_or_none([float("inf")])
        ([1.0, None], None)
    """
    if values is None:
        return None
    most = float(np.finfo(np.float32).max)
    numbers = [float(v) if math.isfinite(v) and abs(v) < most else None for v in values]
    return None if all(number is None for number in numbers) else numbers
