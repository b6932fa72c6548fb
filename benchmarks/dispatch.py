"""jax/dispatch: the look-aheads of ATCS by search, and what each rule is paid on other episodes.

    .venv/bin/python benchmarks/dispatch.py

It takes a minute.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from kanbatsu.envs import dispatch_rules as rules
from kanbatsu.envs.dispatch import Dispatch

JUDGED, FIRST = 1_000, 10_000


def random_place(jobs: jax.Array) -> jax.Array:
    """Return priorities that have nothing to do with when a job is due."""
    return jnp.modf(1e4 * (jobs[:, 1] + jobs[:, 2]))[0]


def main() -> None:
    """Print what was found."""
    shop = Dispatch()
    tuned = rules.search(shop)
    print(f"look-aheads of ATCS: {tuned}")
    names = {
        "earliest due date": (rules.by_due_date, ()),
        "shortest weighted processing time": (rules.by_processing_time, ()),
        "ATCS, tuned": (rules.by_tardiness_cost, tuple(map(jnp.float32, tuned))),
        "any job": (random_place, ()),
    }
    for name, (priority, arguments) in names.items():
        paid = np.asarray(rules.returns(priority, shop, JUDGED, FIRST, arguments))
        error = 1.96 * paid.std(ddof=1) / np.sqrt(paid.size)
        print(f"  {name:<34} {paid.mean():8.2f} +- {error:.2f} (95 %, {paid.size} episodes)")


if __name__ == "__main__":
    main()
