"""A small study with planted results, written through the store."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kanbatsu.files.store import StudyFolder

ARMS: dict[str, dict[str, Any]] = {
    "dense-64": {"width": 64, "sparsity": 0.0, "kept": 9_000, "total": 9_000},
    "dense-256": {"width": 256, "sparsity": 0.0, "kept": 140_000, "total": 140_000},
    "sparse-256": {"width": 256, "sparsity": 0.94, "kept": 8_400, "total": 140_000},
}
ACTOR = {"kept": 4_000, "total": 4_000, "parameters": 4_300}


def planted_return(arm: str, seed: int) -> float:
    """Ten apart by arm, one apart by seed: every run of a later arm beats every earlier run."""
    place = list(ARMS).index(arm) if arm in ARMS else 0
    return 100.0 + 10 * place + seed


def write_study(
    out: Path,
    *,
    arms: Mapping[str, Mapping[str, Any]] = ARMS,
    tasks: tuple[str, ...] = ("dmc/walker-walk",),
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    control: str | None = "dense-64",
    decision: Mapping[str, Any] | None = None,
    note: str | None = None,
    env_steps: int = 1_000,
    returns: Callable[[str, str, int, float], float] = lambda arm, task, seed, share: (
        share * planted_return(arm, seed)
    ),
    stop: Mapping[tuple[str, str, int], tuple[str, str | None, float]] | None = None,
    milliseconds: float = 5.0,
    probes: bool = True,
) -> StudyFolder:
    """Write a study; `stop` ends runs early: (arm, task, seed) -> (state, error, share reached)."""
    folder = StudyFolder(out)
    record: dict[str, Any] = {
        "question": "Does thinning help?",
        "note": note,
        "agent": "sac",
        "control": control,
        "decision": decision,
        "tasks": list(tasks),
        "seeds": list(seeds),
        "env_steps": env_steps,
        "command": "kanbatsu study studies/demo.toml --out out/demo",
        "hash": "0",
        "arms": {},
    }
    for arm, shape in arms.items():
        runs: dict[str, dict[str, str]] = {}
        for task in tasks:
            for seed in seeds:
                run_id = f"{arm}-{task.replace('/', '-')}-{seed}"
                runs.setdefault(task, {})[str(seed)] = run_id
                state, error, reached = (stop or {}).get((arm, task, seed), ("finished", None, 1.0))
                if state == "not started":
                    continue
                run = folder.run_folder(run_id)
                run.write_config({"task": task, "seed": seed, "env_steps": env_steps})
                run.append(networks_record(shape))
                for step in range(round(10 * reached) + 1):
                    at = env_steps * step // 10
                    value = returns(arm, task, seed, step / 10)
                    run.append(evaluation(at, value))
                    if probes:
                        run.append(probe(at, seed, step / 10))
                run.write_status(state, error)
                run.append_timing(timing_line(env_steps, milliseconds))
                run.append_timing(timing_line(env_steps, milliseconds + 2))
                run.append_timing(timing_line(env_steps, 100 * milliseconds))
                run.write_machine(
                    {
                        "versions": {"jax": "0.10.2", "kanbatsu": "0.1.0"},
                        "platform": "Linux",
                        "cpu": "Zen 5",
                        "cores": 2,
                        "device": "cpu",
                    }
                )
        network = {"network": "simba", "blocks": 2, "pattern": "element", "distribution": "erk"}
        record["arms"][arm] = {
            "agent": "sac",
            "config": {
                "actor": {**network, "width": 32, "blocks": 1, "sparsity": 0.0},
                "critic": {**network, "width": shape["width"], "sparsity": shape["sparsity"]},
                "learning_rate": 1e-4,
                "discount": None,
            },
            "train": {"batch_size": 256},
            "runs": runs,
        }
    folder.write_study(record)
    return folder


def networks_record(shape: Mapping[str, Any]) -> dict[str, Any]:
    critic = {"kept": shape["kept"], "total": shape["total"], "parameters": shape["kept"] + 900}
    return {
        "kind": "networks",
        "env_steps": 0,
        "networks": {"actor": ACTOR, "critic": critic},
        "flops_per_update": {"dense": 6 * 256 * shape["total"], "sparse": 6 * 256 * shape["kept"]},
    }


def evaluation(env_steps: int, value: float) -> dict[str, Any]:
    return {
        "kind": "evaluation",
        "env_steps": env_steps,
        "mean_return": value,
        "returns": [value],
        "flops": 2e6 * env_steps,
    }


def probe(env_steps: int, seed: int, share: float) -> dict[str, Any]:
    metrics = {}
    for network in ("actor", "critic"):
        metrics |= {
            f"{network}/dormant_0.1": 0.1 * share * (1 + seed / 10),
            f"{network}/dormant_0.1/block_0": 0.2 * share,
            f"{network}/srank": 60 - 20 * share + seed,
            f"{network}/gradient_norm": 3.0 + seed - share,
        }
    return {"kind": "probe", "env_steps": env_steps, "metrics": metrics}


def timing_line(env_steps: int, milliseconds: float) -> dict[str, Any]:
    return {
        "env_steps": env_steps,
        "updates": 10,
        "seconds": 20.0 * milliseconds,
        "update_milliseconds": milliseconds,
        "environment_seconds": 1.0,
    }


@pytest.fixture
def make_study() -> Callable[..., StudyFolder]:
    return write_study


def planted_verdict(**changes: Any) -> dict[str, Any]:
    """A verdict as summary.json holds it, of the planted study."""
    verdict: dict[str, Any] = {
        "decision": "adopt",
        "arm": "sparse-256",
        "control": "dense-64",
        "rule": {
            "goal": "better",
            "measure": "mean_difference",
            "minimum_effect": 5.0,
            "maximal_regression": None,
            "saves": "kept",
            "confidence": 0.95,
            "seeds": 5,
            "control": "dense-64",
            "arms": ["dense-256", "sparse-256"],
        },
        "effect": {
            "measure": "mean_difference",
            "value": 20.0,
            "interval": [17.1, 22.9],
            "relative": 0.196,
        },
        "probability_of_improvement": {"value": 1.0, "interval": [0.62, 1.0]},
        "gains": {
            "return": 20.0,
            "kept": {"arm": 12_400, "control": 13_000},
            "flops": {"arm": 1.2e12, "control": 2.4e12},
        },
        "probes": {
            "critic/dormant_0.1": {"arm": 0.12, "control": 0.12},
            "critic/srank": {"arm": 42.0, "control": 42.0},
            "critic/gradient_norm": {"arm": 4.0, "control": 4.0},
        },
        "flags": [
            {
                "arm": "sparse-256",
                "task": "dmc/walker-walk",
                "kind": "dormancy",
                "network": "critic",
                "value": 0.41,
                "threshold": 0.25,
            }
        ],
        "seeds": 5,
        "comparisons": 2,
        "further_seeds": None,
        "overturned_by": [
            {"kind": "seeds_like_control", "seeds": 7, "decision": "extend"},
            {"kind": "one_run", "runs": 1, "of": 10},
        ],
        "budget": {"matched": "kept", "axes": ["env_steps", "flops", "seconds", "kept"]},
        "candidates": [
            {"arm": "dense-256", "effect": {"value": 10.0, "interval": [7.1, 12.9]}},
            {"arm": "sparse-256", "effect": {"value": 20.0, "interval": [17.1, 22.9]}},
        ],
    }
    return verdict | changes


@pytest.fixture
def make_verdict() -> Callable[..., dict[str, Any]]:
    return planted_verdict
