"""What each of kanbatsu's agents computes when it acts, from the arrays of its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from kanbatsu.agents import AGENTS
from kanbatsu.deploy.contract import Image, Moments
from kanbatsu.deploy.layers import Choose, Layer, Normalise
from kanbatsu.deploy.network import Arrays, policy_layers
from kanbatsu.deploy.value_networks import normed_values, stream_actor, stream_values
from kanbatsu.nn.welford import STREAM_EPSILON
from kanbatsu.spec import Spec

FEWEST_SEEN = 2.0
"""Observations from which on a normaliser has moments of the training data."""


class Acting(NamedTuple):
    """A greedy policy, and what is known of its observations."""

    layers: list[Layer]
    seen: float | None = None
    """Observations that the normaliser is made from, where there is one."""
    moments: Moments | None = None
    """Moments that the normaliser holds, once it has seen something."""
    image: Image | None = None
    """What an observation is, if it is an image."""

    @property
    def spec(self) -> Spec:
        """Description of an environment that the agent fits."""
        begin, end = self.layers[0], self.layers[-1]
        assert isinstance(begin, Normalise)
        discrete = isinstance(end, Choose)
        sizes: Any = end.sizes if isinstance(end, Choose) else end
        outputs = int(sizes.sum()) if discrete else sizes.low.size
        if self.image is None:
            return Spec((begin.mean.size,), outputs, episode_length=None, discrete=discrete)
        return Spec(self.image.shape, outputs, obs_dtype=self.image.dtype, discrete=discrete)  # type: ignore[arg-type]


class Known(NamedTuple):
    """What an agent's arrays do not say."""

    config: Any
    """Configuration of the agent."""
    environment: Mapping[str, Any]
    """What the run knew of its environment."""
    low: Any = None
    """Lowest value of each entry of an action, `[action_dim]` or one for all."""
    high: Any = None
    """Highest value likewise."""
    start: int = 0
    """Number of the first action, of those that are choices."""


def seen_by(mean: np.ndarray, variance: np.ndarray, count: float) -> Moments | None:
    """Return the moments that a normaliser holds, once it has seen something."""
    if count < FEWEST_SEEN:
        return None
    spread = np.sqrt(np.asarray(variance, float))
    return Moments("normaliser", float(count), np.asarray(mean, float), spread)


def acting_of(agent: str, arrays: Arrays, known: Known) -> Acting:
    """Return the greedy policy of an agent.

    Args:
        agent: name of the agent, such as `sac`.
        arrays: every array of its state, by path.
        known: what they do not say.

    Raises:
        ValueError: the agent or its network cannot be exported.
    """
    return reader_of(agent)(arrays, known)


def reader_of(agent: str) -> Callable[[Arrays, Known], Acting]:
    """Return what reads an agent's arrays.

    Raises:
        ValueError: the agent cannot be exported.

    Example:
        >>> reader_of("dreamer")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: the policy of dreamer cannot be exported, only sac, ddpg, stream_ac, ...
    """
    squashed = {name: _tanh_of_mean for name, entry in AGENTS.items() if entry.tanh_of_mean}
    readers = squashed | OTHERS
    if agent not in readers:
        raise ValueError(f"the policy of {agent} cannot be exported, only {', '.join(readers)}")
    return readers[agent]


def part(arrays: Arrays, name: str) -> dict[str, np.ndarray]:
    """Return the arrays of one part of a state, by their paths inside of it.

    Example:
        >>> part({"actor/bias": np.ones(1), "step": np.ones(1)}, "actor")
        {'bias': array([1.])}
    """
    return {key[len(name) + 1 :]: x for key, x in arrays.items() if key.startswith(f"{name}/")}


def _tanh_of_mean(arrays: Arrays, known: Known) -> Acting:
    mean, variance = arrays["normaliser/mean"], arrays["normaliser/variance"]
    layers = policy_layers(part(arrays, "actor"), mean, variance, known.low, known.high)
    count = float(arrays["normaliser/count"])
    return Acting(layers, count, seen_by(mean, variance, count))


def _stream_ac(arrays: Arrays, known: Known) -> Acting:
    begin, count, moments = _senses(arrays, known)
    actor = part(arrays, "actor")
    outputs = actor["head/mean/bias"].size
    try:
        ends = (np.broadcast_to(np.float32(end), outputs) for end in (known.low, known.high))
        low, high = (np.array(end, np.float32) for end in ends)
    except ValueError:
        raise ValueError(f"low and high must be one number, or {outputs} each") from None
    return Acting([begin, *stream_actor(actor, begin.mean.size, low, high)], count, moments)


def _stream_q(arrays: Arrays, known: Known) -> Acting:
    begin, count, moments = _senses(arrays, known)
    layers = stream_values(part(arrays, "critic"), begin.mean.size, known.start)
    return Acting([begin, *layers], count, moments)


def _senses(arrays: Arrays, known: Known) -> tuple[Normalise, float, Moments | None]:
    """The normaliser of a stream, which leaves the time as it is."""
    statistics = part(arrays, "senses/statistics")
    count, mean = float(statistics["count"]), statistics["mean"]
    variance = statistics["squares"] / np.float32(max(count - 1, 1))
    variance = np.ones_like(variance) if count < FEWEST_SEEN else variance
    scale = np.sqrt(variance + np.float32(STREAM_EPSILON))
    time = [int(known.config.time)]
    begin = Normalise(np.pad(mean, (0, *time)), np.pad(scale, (0, *time), constant_values=1))
    spread = np.pad(variance, (0, *time), constant_values=1 / 12)  # of a time between -0.5 and 0.5
    return begin, count, seen_by(begin.mean, spread, count)


def _pqn(arrays: Arrays, known: Known) -> Acting:
    critic = part(arrays, "critic")
    shape = tuple(known.environment["obs_shape"])
    dtype = str(known.environment.get("obs_dtype", "float32"))
    size = int(np.prod(shape))
    scale = np.full(size, 255 if dtype == "uint8" else 1, np.float32)
    residual = known.config.critic.residual
    layers = normed_values(critic, shape, known.start, residual=residual)
    image = Image(shape, dtype) if len(shape) > 1 else None
    return Acting([Normalise(np.zeros(size, np.float32), scale), *layers], image=image)


OTHERS: dict[str, Callable[[Arrays, Known], Acting]] = {
    "stream_ac": _stream_ac,
    "stream_q": _stream_q,
    "pqn": _pqn,
}
"""What reads agents whose greedy action is not tanh of a mean."""
