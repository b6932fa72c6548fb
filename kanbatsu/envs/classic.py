"""Cart-pole and pendulum as pure JAX functions: Gymnasium's CartPole-v1 and Pendulum-v1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kanbatsu.envs.functional import FunctionalStep
from kanbatsu.envs.spec import bounds
from kanbatsu.types import Key, Spec


class Clock(NamedTuple):
    """A simulator's numbers, and the interactions since the episode began."""

    x: Float[Array, " n"]
    interactions: Int[Array, ""]


@dataclass(frozen=True)
class CartPole:
    """Keep a pole upright on a cart that is pushed left or right; reward 1 for every interaction.

    Example:
        >>> state, obs = CartPole().reset(jax.random.key(0))
        >>> _, step = CartPole().step(state, jnp.array([0.0, 1.0]), jax.random.key(1))
        >>> bool(step.obs[1] > obs[1])  # pushed to the right
        True

    Reference:
        Barto, Sutton and Anderson 1983, "Neuronlike adaptive elements that can solve difficult
        learning control problems"; constants, Euler steps and limits of Gymnasium's CartPole-v1.
    """

    LIMIT = 500
    """Interactions until an episode is cut off."""
    spec = Spec((4,), action_dim=2, episode_length=LIMIT, discrete=True)

    GRAVITY, CART, POLE, HALF_LENGTH = 9.8, 1.0, 0.1, 0.5
    """m/s^2, kg, kg, m"""
    FORCE, SECONDS = 10.0, 0.02
    FARTHEST, STEEPEST = 2.4, 12 * math.pi / 180
    """Metres from the centre and radians from upright at which an episode ends."""

    def reset(self, key: Key) -> tuple[Clock, Float[Array, " 4"]]:
        """Start near rest in the centre."""
        x = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return Clock(x, jnp.int32(0)), x

    def step(
        self, state: Clock, action: Float[Array, " 2"], key: Key
    ) -> tuple[Clock, FunctionalStep]:
        """Push for one step of time."""
        _, velocity, angle, spin = state.x
        force = jnp.where(action[1] > action[0], self.FORCE, -self.FORCE)
        mass, moment = self.CART + self.POLE, self.POLE * self.HALF_LENGTH
        sin, cos = jnp.sin(angle), jnp.cos(angle)
        push = (force + moment * spin**2 * sin) / mass
        spin_up = (self.GRAVITY * sin - cos * push) / (
            self.HALF_LENGTH * (4.0 / 3.0 - self.POLE * cos**2 / mass)
        )
        speed_up = push - moment * spin_up * cos / mass
        rates = jnp.stack([velocity, speed_up, spin, spin_up])
        new = Clock(state.x + self.SECONDS * rates, state.interactions + 1)
        terminated = (jnp.abs(new.x[0]) > self.FARTHEST) | (jnp.abs(new.x[2]) > self.STEEPEST)
        truncated = ~terminated & (new.interactions >= self.LIMIT)
        return new, FunctionalStep(new.x, jnp.float32(1.0), terminated, truncated)


@dataclass(frozen=True)
class Pendulum:
    """Swing a pendulum up and hold it there with a weak motor; it is paid by staying upright.

    Example:
        >>> state, obs = Pendulum().reset(jax.random.key(0))
        >>> obs.shape
        (3,)

    Reference:
        Gymnasium's Pendulum-v1: its constants, time step and reward.
    """

    LIMIT = 200
    """Interactions until an episode is cut off."""
    spec = Spec((3,), action_dim=1, episode_length=LIMIT, **bounds(-2.0, 2.0))

    GRAVITY, MASS, LENGTH = 10.0, 1.0, 1.0
    TORQUE, FASTEST, SECONDS = 2.0, 8.0, 0.05

    def reset(self, key: Key) -> tuple[Clock, Float[Array, " 3"]]:
        """Start at any angle, turning slowly."""
        high = jnp.array([math.pi, 1.0])
        state = Clock(jax.random.uniform(key, (2,), minval=-high, maxval=high), jnp.int32(0))
        return state, self._observe(state)

    def step(
        self, state: Clock, action: Float[Array, " 1"], key: Key
    ) -> tuple[Clock, FunctionalStep]:
        """Turn the motor for one step of time."""
        angle, speed = state.x
        torque = self.TORQUE * jnp.clip(action[0], -1.0, 1.0)
        wrapped = jnp.mod(angle + math.pi, 2.0 * math.pi) - math.pi
        cost = wrapped**2 + 0.1 * speed**2 + 0.001 * torque**2
        pull = 1.5 * self.GRAVITY / self.LENGTH * jnp.sin(angle)
        push = 3.0 / (self.MASS * self.LENGTH**2) * torque
        speed = jnp.clip(speed + (pull + push) * self.SECONDS, -self.FASTEST, self.FASTEST)
        new = Clock(jnp.stack([angle + speed * self.SECONDS, speed]), state.interactions + 1)
        truncated = new.interactions >= self.LIMIT
        return new, FunctionalStep(self._observe(new), -cost, jnp.bool_(False), truncated)

    def _observe(self, state: Clock) -> Float[Array, " 3"]:
        angle, speed = state.x
        return jnp.stack([jnp.cos(angle), jnp.sin(angle), speed])
