"""Dispatching as pure JAX functions: which waiting job goes to the machine that is free?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kanbatsu.envs.functional import FunctionalStep
from kanbatsu.types import Key, Spec

PER_PLACE = 5
"""Numbers of each visible job in an observation."""


class Shop(NamedTuple):
    """State of an episode: all jobs that will come, and where the machines stand.

    Times are in units of the mean processing time.
    """

    arrival: Float[Array, " jobs"]
    processing: Float[Array, " jobs"]
    due: Float[Array, " jobs"]
    weight: Float[Array, " jobs"]
    """Cost of each unit of time by which the job is late."""
    family: Int[Array, " jobs"]
    done: Bool[Array, " jobs"]
    """True of jobs that were dispatched."""
    free: Float[Array, " machines"]
    """Time at which each machine is free."""
    stands: Int[Array, " machines"]
    """Family that each machine is set up for."""
    now: Float[Array, ""]
    """Time of the decision."""
    late: Float[Array, ""]
    """Weighted tardiness so far."""
    last: Float[Array, ""]
    """Weighted tardiness of the job that was dispatched last."""


@dataclass(frozen=True)
class Dispatch:
    """Send jobs to identical machines so that little is late: one job for each free machine.

    Jobs of several families arrive one after the other. When a machine is free and jobs wait, one
    of them is chosen among those that are due first; a machine that is not set up for its family
    loses the set-up time. An action is a place among the visible jobs, ordered by their due dates:
    place 0 is the earliest due date. A place where no job stands means the last one that there is.
    The reward is the negative weighted tardiness of the chosen job, known as soon as it is
    dispatched. An episode ends when all jobs were.

    The observation is, for each place, whether a job stands there, its processing time, its slack
    (time to its due date less its processing time), its weight and whether the machine would need
    a set-up, then the jobs that wait, the time until the next machine is free, the share of the
    jobs that are still to come, and the jobs that wait by family.

    Raises:
        ValueError: there are fewer jobs than places.

    Example:
        >>> shop, obs = Dispatch().reset(jax.random.key(0))
        >>> obs.shape, Dispatch().spec.action_dim
        ((36,), 6)
        >>> _, step = Dispatch().step(shop, jnp.eye(6)[0], jax.random.key(1))
        >>> bool(step.reward <= 0.0), bool(step.terminated)
        (True, False)

    Source: Pinedo 2016, "Scheduling: Theory, Algorithms, and Systems", for the objective, total
    weighted tardiness on parallel machines with set-up times; Lee, Bhaskaran and Pinedo 1997, "A
    heuristic to minimize the total weighted tardiness with sequence-dependent setups", IIE
    Transactions 29, for jobs like these. Sizes and rates are this task's own.
    """

    jobs: int = 60
    """Jobs of an episode."""
    machines: int = 2
    """Machines, all alike."""
    places: int = 6
    """Jobs that are seen at once, those that are due first."""
    families: int = 3
    """Families of jobs."""
    setup: float = 0.5
    """Time that a machine takes to change to another family."""
    between: float = 0.7
    """Mean time from one arrival to the next."""
    slack: tuple[float, float] = (1.0, 6.0)
    """Least and most time that a job has beyond its processing time when it arrives."""
    weights: tuple[float, ...] = (1.0, 2.0, 4.0)
    """Weights, each as frequent as the others."""

    def __post_init__(self) -> None:
        if self.jobs < self.places:
            raise ValueError(
                f"an episode needs at least as many jobs as are seen at once ({self.places}): got "
                f"{self.jobs}"
            )

    @property
    def spec(self) -> Spec:
        """Sizes, and as many interactions as there are jobs."""
        length = PER_PLACE * self.places + 3 + self.families
        return Spec((length,), self.places, episode_length=self.jobs, discrete=True)

    def reset(self, key: Key) -> tuple[Shop, Float[Array, " obs_dim"]]:
        """Draw all jobs; the machines are free, and the first job has just arrived."""
        keys, n = jax.random.split(key, 5), (self.jobs,)
        arrival = self.between * jnp.cumsum(jax.random.exponential(keys[0], n))
        arrival = arrival - arrival[0]
        processing = jax.random.uniform(keys[1], n, minval=0.5, maxval=1.5)
        low, high = self.slack
        due = arrival + processing + jax.random.uniform(keys[2], n, minval=low, maxval=high)
        shop = Shop(
            arrival,
            processing,
            due,
            jax.random.choice(keys[3], jnp.array(self.weights), n),
            jax.random.randint(keys[4], n, 0, self.families),
            jnp.zeros(n, bool),
            jnp.zeros(self.machines),
            jnp.arange(self.machines) % self.families,
            jnp.float32(0.0),
            jnp.float32(0.0),
            jnp.float32(0.0),
        )
        return shop, self._observe(shop)

    def step(
        self, state: Shop, action: Float[Array, " places"], key: Key
    ) -> tuple[Shop, FunctionalStep]:
        """Dispatch a job to the machine that is free, and wait for the next decision."""
        places, there = self._visible(state)
        job = places[jnp.minimum(jnp.argmax(action), there.sum() - 1)]
        machine = jnp.argmin(state.free)
        changes = state.stands[machine] != state.family[job]
        ends = state.now + jnp.where(changes, self.setup, 0.0) + state.processing[job]
        late = state.weight[job] * jnp.maximum(ends - state.due[job], 0.0)
        done, free = state.done.at[job].set(True), state.free.at[machine].set(ends)
        over = done.all()
        coming = jnp.where(done, jnp.inf, state.arrival).min()
        now = jnp.where(over, state.now, jnp.maximum(free.min(), coming))
        new = state._replace(
            done=done,
            free=free,
            stands=state.stands.at[machine].set(state.family[job]),
            now=now,
            late=state.late + late,
            last=late,
        )
        return new, FunctionalStep(self._observe(new), -late, over, jnp.bool_(False))

    def gauges(self, state: Shop) -> dict[str, dict[str, float]]:
        """Return the numbers of a chart at this moment, by panel and name."""
        waiting = (state.arrival <= state.now) & ~state.done
        busy = jnp.maximum(state.free - state.now, 0.0)
        return {
            "jobs": {
                "waiting": float(waiting.sum()),
                "overdue": float((waiting & (state.due < state.now)).sum()),
            },
            "busy for": {f"machine {at + 1}": float(time) for at, time in enumerate(busy)},
            "weighted tardiness": {"last job": float(state.last)},
        }

    def _visible(self, shop: Shop) -> tuple[Int[Array, " places"], Bool[Array, " places"]]:
        """Return the waiting jobs that are due first, and in which places there is one."""
        waiting = (shop.arrival <= shop.now) & ~shop.done
        places = jnp.argsort(jnp.where(waiting, shop.due, jnp.inf))[: self.places]
        return places, waiting[places]

    def _observe(self, shop: Shop) -> Float[Array, " obs_dim"]:
        places, there = self._visible(shop)
        machine = jnp.argmin(shop.free)
        slack = shop.due[places] - shop.processing[places] - shop.now
        needs = shop.family[places] != shop.stands[machine]
        columns: list[Any] = [there, shop.processing[places], slack, shop.weight[places], needs]
        jobs = jnp.where(there[:, None], jnp.stack([jnp.float32(x) for x in columns], 1), 0.0)
        waiting = (shop.arrival <= shop.now) & ~shop.done
        of_family = jnp.where(waiting[:, None], jax.nn.one_hot(shop.family, self.families), 0.0)
        rest = jnp.stack(
            [
                jnp.float32(waiting.sum()),
                jnp.sort(shop.free)[1 % self.machines] - shop.now,
                1.0 - jnp.float32(shop.done.sum()) / self.jobs,
            ]
        )
        return jnp.concatenate([jobs.ravel(), rest, of_family.sum(0)])
