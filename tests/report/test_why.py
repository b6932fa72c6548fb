"""docs/why.md: relations between early probes and final returns, computed as it says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kanbatsu.report.evidence import why
from kanbatsu.report.evidence.stored import Evidence, read_all
from kanbatsu.report.results import ArmResults, RunResults, StudyResults

ROOT = Path(__file__).parents[2]
SRANK = "critic/srank"


def run(arm: str, seed: int, early: float, final: float) -> RunResults:
    probes = {SRANK: {100: -final, 250: early, 1000: final}}
    returns = {0: 0.0, 1000: final}
    rest: dict[str, Any] = {"networks": {}, "flops_per_update": {}, "flops": {}, "timing": ()}
    return RunResults(
        f"{arm}_{seed}",
        arm,
        "t",
        seed,
        True,
        "finished",
        None,
        returns,
        probes,
        machine=None,
        **rest,
    )


def stored(arms: dict[str, list[tuple[float, float]]]) -> list[Evidence]:
    """Return one study; each arm's seeds have an early probe and a final return."""
    results = tuple(
        ArmResults(
            name, "ddpg", {}, {}, "env_steps", tuple(run(name, i, *x) for i, x in enumerate(pairs))
        )
        for name, pairs in arms.items()
    )
    study = StudyResults("?", None, None, ("t",), (0,), 1000, "x", None, results)
    return [Evidence("planted", study, "Planted", "", ())]


def test_the_page_is_that_of_the_stored_data() -> None:
    written = (ROOT / "docs" / "why.md").read_text(encoding="utf-8")
    assert written == why.render(read_all(ROOT / "evidence")), "run `make evidence`"


def test_the_probe_is_taken_at_a_quarter_and_ranks_are_pooled_within_arms() -> None:
    rising = [(float(i), 10.0 * i) for i in range(6)]
    falling = [(100.0 + i, -10.0 * i) for i in range(6)]
    # In one arm the probe goes with the return, in the other against it: nothing is left.
    relation = why.within(stored({"a": rising, "b": falling}), "ddpg", SRANK)
    assert relation is not None
    assert relation.effect.value == pytest.approx(0.0, abs=1e-12)
    assert relation.effect.low < -0.9
    assert relation.effect.high > 0.9
    assert (relation.groups, relation.sources) == (2, 12)


def test_pooling_weighs_arms_by_seeds_as_worked_out_by_hand() -> None:
    x, y = np.arange(5.0), np.array([1.0, 0.0, 2.0, 4.0, 3.0])  # rho = 1 - 6 * 4 / (5 * 24) = .8
    v, w = np.arange(4.0), np.array([1.0, 0.0, 2.0, 3.0])  # rho = 1 - 6 * 2 / (4 * 15) = .8
    estimate = why.pooled([np.stack([x, y]), np.stack([v, w])])
    assert tuple(estimate) == pytest.approx((0.8, 0.8, 0.8))
    # z of .8 with weight 2, of -.8 with weight 1: a third of atanh(.8).
    estimate = why.pooled([np.stack([x, y]), np.stack([v, -w])])
    assert estimate.value == pytest.approx(np.tanh(np.arctanh(0.8) / 3))
    assert estimate.low < -0.9


def test_arms_are_counted_pair_by_pair() -> None:
    arms = {"low": [(1.0, 1.0)], "middle": [(2.0, 5.0)], "high": [(3.0, 4.0)]}
    relation = why.between(stored(arms), "ddpg", SRANK)
    assert relation is not None
    assert relation.effect.value == pytest.approx(1 / 3)  # two pairs agree, one does not
    assert np.isnan(relation.effect.low)  # one study says nothing of how studies scatter
    assert (relation.groups, relation.sources) == (3, 1)
    assert why.between(stored(arms), "sac", SRANK) is None


def test_runs_without_a_number_are_left_out() -> None:
    pairs = [(float(i), float(i)) for i in range(6)]
    broken = [*pairs, (float("nan"), 3.0)]
    relation = why.within(stored({"a": broken, "b": pairs}), "ddpg", SRANK)
    assert relation is not None
    assert relation.sources == 12
