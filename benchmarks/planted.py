"""Studies whose truth is known, through the code that decides: wrong adoptions and power.

A synthetic agent returns a constant that depends on its arm, plus noise of one standard deviation:
normal, skewed (lognormal), or of an agent that fails altogether with one seed in five. In unlike
truths the arm scatters differently from the control, most of all by seeds that collapse.

    python benchmarks/planted.py

Results: benchmarks/results/planted.json. Every draw comes from a fixed seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.files.tables import to_dict
from kanbatsu.report import power
from kanbatsu.report.decision import verdict
from kanbatsu.report.effect import effect
from kanbatsu.report.failures import rate_bounds
from kanbatsu.report.judge import confidence_of_each
from kanbatsu.report.results import ArmResults, RunResults, StudyResults
from kanbatsu.study.rule import DecisionRule

TASK = "dmc/planted"
STUDIES = 200
"""Of each kind, through the whole of the verdict."""
MANY = 4_000
"""Of each kind, through the interval alone: a rate of 5 % is then known to within 0.7 %."""
EFFECTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
SEEDS = (5, 7, 10, 15, 20, 30)
UNLIKE_STUDIES = ((1, 5, None), (4, 5, None), (1, 10, None), (4, 10, None), (1, 29, 0.1))
"""Arms, seeds and the rule's `max_failure_rate` of studies with unlike truths."""
RESULTS = Path(__file__).parent / "results" / "planted.json"

Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Runs that scatter as textbooks have it."""
    return rng.normal(size=shape)


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Runs of which a few are far better."""
    raw = rng.lognormal(sigma=0.8, size=shape)
    return (raw - np.exp(0.32)) / np.sqrt((np.exp(0.64) - 1) * np.exp(0.64))


def failing(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Runs of which one in five fails altogether."""
    raw = 0.1 * rng.normal(size=shape) - (rng.random(shape) < 0.2)
    return (raw + 0.2) / np.sqrt(0.16 + 0.01)


def collapsing(rate: float, spread: float) -> Noise:
    """Return runs of which a share collapses to 10 below the others; their mean is zero."""

    def noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        collapsed = np.where(rng.random(shape) < rate, -10.0, 0.0)
        return collapsed + 10.0 * rate + spread * rng.normal(size=shape)

    return noise


def lopsided(side: float) -> Noise:
    """Return exponential runs with a long tail on one side; their mean is zero."""
    return lambda rng, shape: side * (rng.exponential(size=shape) - 1.0)


UNLIKE: dict[str, tuple[Noise, Noise]] = {
    "one in ten seeds of the arm collapses": (collapsing(0.1, 0.01), collapsing(0.0, 0.01)),
    "one in five seeds of the arm collapses": (collapsing(0.2, 0.01), collapsing(0.0, 0.01)),
    "one in five, other runs scatter by 2": (collapsing(0.2, 2.0), collapsing(0.0, 2.0)),
    "arm skewed down, control up": (lopsided(-1.0), lopsided(1.0)),
}
"""Truths of equal means in which arm and control scatter differently: noise of the arm, and of the
control."""

NOISES: dict[str, Noise] = {"normal": normal, "skewed": skewed, "failing": failing}


def planted_study(returns: dict[str, np.ndarray], rule: DecisionRule) -> StudyResults:
    """Return a finished study with given final returns, `[seeds]` by arm, the control first."""
    seeds = range(len(next(iter(returns.values()))))

    def run(arm: str, seed: int) -> RunResults:
        return RunResults(
            run_id=f"{arm}-{seed}",
            arm=arm,
            task=TASK,
            seed=seed,
            finished=True,
            state="finished",
            error=None,
            returns={0: 0.0, 1_000: float(returns[arm][seed])},
            probes={},
            networks={"critic": {"kept": 1_000 if arm == next(iter(returns)) else 100}},
            flops_per_update={},
            flops={},
            timing=(),
            machine=None,
        )

    arms = tuple(
        ArmResults(arm, "planted", {}, {}, "env_steps", tuple(run(arm, seed) for seed in seeds))
        for arm in returns
    )
    return StudyResults(
        question="Is the truth found?",
        note=None,
        control=arms[0].name,
        tasks=(TASK,),
        seeds=tuple(seeds),
        env_steps=1_000,
        command="",
        decision=to_dict(rule),
        arms=arms,
    )


def decisions(
    noise: Noise, effects: list[float], seeds: int, studies: int, rule: DecisionRule, seed: int
) -> dict[str, float]:
    """Return how often each verdict comes out of studies whose arms have given effects."""
    rng = np.random.default_rng(seed)
    found = {"adopt": 0, "extend": 0, "reject": 0}
    for _ in range(studies):
        returns = {"control": 10.0 + noise(rng, (seeds,))}
        returns |= {
            f"arm-{index}": 10.0 + size + noise(rng, (seeds,)) for index, size in enumerate(effects)
        }
        judged = verdict(planted_study(returns, rule))
        assert judged is not None
        found[judged["decision"]] += 1
    return {name: count / studies for name, count in found.items()}


def unlike_adoptions(
    noises: tuple[Noise, Noise], arms: int, seeds: int, max_rate: float | None = None, seed: int = 0
) -> dict[str, float]:
    """Return how often one of some arms is adopted that are no better, but scatter differently.

    `adopt`: by the interval alone; `bounded`: where the runs also exclude a share of collapses
    above `max_rate`, a collapse being a run more than 5 below the others, as half of what the
    control learned would be.
    """
    rng = np.random.default_rng(seed)
    level = confidence_of_each(0.95, arms)
    y = noises[1](rng, (MANY, seeds))
    adopted, bounded = np.zeros(MANY, bool), np.zeros(MANY, bool)
    for _ in range(arms):
        x = noises[0](rng, (MANY, seeds))
        above = effect([x], [y], "mean_difference", level).low > 0
        adopted |= above
        if max_rate is not None:
            collapsed = (x < np.median(y, axis=-1, keepdims=True) - 5.0).sum(axis=-1)
            highest = np.array([rate_bounds(n, seeds, 0.95)[1] for n in range(seeds + 1)])
            bounded |= above & (highest[collapsed] <= max_rate)
    shares = {"adopt": float(adopted.mean())}
    return shares if max_rate is None else shares | {"bounded": float(bounded.mean())}


def power_curve(noise: Noise, measure: str, seed: int = 0) -> list[dict[str, Any]]:
    """Return, by effect and seeds, the share of studies that adopt, and that decide either way."""
    rng = np.random.default_rng(seed)
    rows = []
    for size in EFFECTS:
        for seeds in SEEDS:
            x, y = size + noise(rng, (MANY, seeds)), noise(rng, (MANY, seeds))
            found = effect([x], [y], measure, 0.95)
            adopted, rejected = (found.low > 0).mean(), (found.high < 0).mean()
            row = {"effect": size, "seeds": seeds, "adopt": float(adopted)}
            rows.append(row | {"reject": float(rejected)})
    return rows


def by_bootstrap(noise: Noise, seeds: int, seed: int = 0) -> float:
    """Return how often a percentile bootstrap of the difference in means would adopt nothing."""
    rng = np.random.default_rng(seed)
    studies, samples = 1_000, 1_000
    adopted = 0
    for _ in range(studies):
        x, y = noise(rng, (seeds,)), noise(rng, (seeds,))
        drawn = [side[rng.integers(seeds, size=(samples, seeds))].mean(axis=1) for side in (x, y)]
        adopted += np.percentile(drawn[0] - drawn[1], 2.5) > 0
    return adopted / studies


def by_selection(noise: Noise, candidates: int, seeds: int, seed: int = 0) -> dict[str, float]:
    """Return wrong adoptions where the best of equal candidates is judged on three kinds of runs.

    `same`: on the runs that chose it, as one comparison; `corrected`: on those runs, with intervals
    for all comparisons; `fresh`: on seeds that had no part in the choice, as `kanbatsu poc` does.
    """
    rng = np.random.default_rng(seed)
    x = noise(rng, (MANY, candidates, seeds))
    y = noise(rng, (MANY, seeds))
    best = x[np.arange(MANY), x.mean(axis=2).argmax(axis=1)]
    fresh = noise(rng, (MANY, seeds)), noise(rng, (MANY, seeds))
    level = confidence_of_each(0.95, candidates)
    told = "mean_difference"
    return {
        "same": float((effect([best], [y], told, 0.95).low > 0).mean()),
        "corrected": float((effect([best], [y], told, level).low > 0).mean()),
        "fresh": float((effect([fresh[0]], [fresh[1]], told, 0.95).low > 0).mean()),
    }


def main() -> None:
    """Run everything, print it, store it."""
    power.STUDIES = 20  # of these comes the number of further seeds, which is not looked at here
    same = DecisionRule(goal="no_worse", maximal_regression=1.0)
    record: dict[str, Any] = {"studies": STUDIES, "verdicts": [], "power": {}, "selection": {}}
    for name, noise in NOISES.items():
        for label, rule, effects in (
            ("nothing, one arm", DecisionRule(), [0.0]),
            ("nothing, four arms", DecisionRule(), [0.0] * 4),
            ("nothing, one arm, IQM", DecisionRule(measure="iqm_difference"), [0.0]),
            ("as bad as may not be, no_worse", same, [-1.0]),
            ("effect of 2, one arm", DecisionRule(), [2.0]),
        ):
            for seeds in (5, 10):
                rates = decisions(noise, effects, seeds, STUDIES, rule, seed=seeds)
                row = {"noise": name, "truth": label, "seeds": seeds, **rates}
                record["verdicts"].append(row)
                print(row, flush=True)
        record["power"][name] = {
            measure: power_curve(noise, measure)
            for measure in ("mean_difference", "iqm_difference")
        }
        record["selection"][name] = by_selection(noise, candidates=6, seeds=5)
        print(name, record["selection"][name], flush=True)
    record["unlike"] = [
        {"truth": name, "arms": arms, "seeds": seeds, "max_failure_rate": rate}
        | unlike_adoptions(noises, arms, seeds, rate)
        for name, noises in UNLIKE.items()
        for arms, seeds, rate in UNLIKE_STUDIES
    ]
    record["bootstrap"] = {
        name: {str(seeds): by_bootstrap(noise, seeds) for seeds in (5, 10)}
        for name, noise in NOISES.items()
    }
    print(record["bootstrap"])
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
