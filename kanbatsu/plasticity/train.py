"""Runs of the bench side by side: the seeds of one arm in one program, each with files of its own.

Their files are those of any run of a study, so that reports, archives and evidence pages read them:
an env step is a gradient step, and a return the mean accuracy of the latest tasks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import to_dict
from kanbatsu.machine import machine_facts, peak_resident_bytes
from kanbatsu.plasticity import classifier
from kanbatsu.plasticity.classifier import UNTREATED, Treatment
from kanbatsu.plasticity.config import LabelRun, LabelStream
from kanbatsu.remedies.parts import masked_weights
from kanbatsu.remedies.records import changes_masks
from kanbatsu.sparsity.count import parameters

NETWORK = "classifier"


@partial(jax.jit, static_argnums=(0, 5), donate_argnums=1)
def _learn(
    stream: LabelStream, learners: Any, keys: Any, task: Any, rate: Any, treatment: Treatment
) -> Any:
    one = partial(classifier.learn, stream, treatment=treatment)
    return jax.vmap(one, in_axes=(0, 0, None, None))(learners, keys, task, rate)


@partial(jax.jit, static_argnums=0)
def _probe(stream: LabelStream, learners: Any, keys: Any, task: Any) -> Any:
    one = partial(classifier.probe, stream)
    return jax.vmap(one, in_axes=(0, 0, None))(learners, keys, task)


def train_side_by_side(
    runs: Sequence[LabelRun],
    folders: Sequence[RunFolder],
    on_task: Callable[[int], None] = lambda task: None,
) -> None:
    """Train runs that differ in their seeds alone, from the first task to the last.

    What their folders held is written anew: a run is a function of its record, and of how many go
    beside it, in the last bits.

    Args:
        runs: Records.
        folders: Each run's own.
        on_task: Called with the number of tasks done, after each.
    """
    first, stream = runs[0], runs[0].train
    each_key = [jax.random.key(run.seed) for run in runs]
    learners = jax.tree.map(
        lambda *each: jnp.stack(each),
        *(classifier.begin(first.config.classifier, stream, key, first.remedy) for key in each_key),
    )
    treatment = UNTREATED
    if first.remedy:
        treatment = Treatment(first.remedy, replace(first.config.classifier, sparsity=0.0))
    keys = jnp.stack(each_key)
    counted = _networks_line(first)
    lines = [counted for _ in runs]
    flops = counted["flops_per_update"]["computed"]
    for run, folder in zip(runs, folders, strict=True):
        folder.write_config(to_dict(run))
        folder.write_status("running")
        folder.write_machine(machine_facts())
        folder.truncate(dict.fromkeys(folder.sizes(), 0))
        folder.append(counted)
    rate, accuracies, started = np.float32(first.learning_rate), [], time.perf_counter()
    for task in map(np.int32, range(stream.tasks)):
        begun = time.perf_counter()
        learners, facts = _learn(stream, learners, keys, task, rate, treatment)
        facts = jax.device_get(facts)
        milliseconds = 1e3 * (time.perf_counter() - begun) / (stream.steps * len(runs))
        accuracies.append(facts["accuracy"])
        done, at = int(task) + 1, (int(task) + 1) * stream.steps
        if changes_masks(first.remedy):
            _write_kept(learners, folders, lines, at)
        facts |= jax.device_get({f"remedy/{name}": x for name, x in learners.tally.items()})
        looks = done in (1, stream.tasks) or done % stream.probe_every == 0
        if looks:
            facts |= jax.device_get(_probe(stream, learners, keys, task))
        for index, folder in enumerate(folders):
            measured = {f"{NETWORK}/{name}": float(x[index]) for name, x in facts.items()}
            folder.append({"kind": "probe", "env_steps": at, "updates": at, "metrics": measured})
            latest = [float(each[index]) for each in accuracies[-stream.window :]]
            folder.append(
                {
                    "kind": "evaluation",
                    "env_steps": at,
                    "updates": at,
                    "flops": at * flops,
                    "returns": latest,
                    "mean_return": float(np.mean(latest)),
                }
            )
            if looks:
                folder.append_timing(
                    {
                        "env_steps": at,
                        "updates": at,
                        "seconds": (time.perf_counter() - started) / len(runs),
                        "update_milliseconds": milliseconds,
                        "peak_resident_bytes": peak_resident_bytes(),
                    }
                )
        on_task(done)
    for folder in folders:
        folder.write_status("finished")


def _write_kept(
    learners: Any, folders: Sequence[RunFolder], lines: list[dict[str, Any]], at: int
) -> None:
    """Say again what networks keep, where it is no longer what their last lines say."""
    masks = jax.device_get([weight.mask for weight in masked_weights(learners.network)])
    for index, folder in enumerate(folders):
        kept = [int(mask[index].sum()) for mask in masks]
        old = lines[index]
        network = old["networks"][NETWORK]
        if kept == [layer["kept"] for layer in network["layers"]]:
            continue
        layers = [x | {"kept": n} for x, n in zip(network["layers"], kept, strict=True)]
        flops = old["flops_per_update"]
        share = sum(kept) / network["total"]
        lines[index] = old | {
            "env_steps": at,
            "networks": {NETWORK: network | {"kept": sum(kept), "layers": layers}},
            "flops_per_update": flops | {"sparse": round(flops["dense"] * share)},
        }
        folder.append(lines[index])


def _networks_line(run: LabelRun) -> dict[str, Any]:
    """Return what a run's network keeps, as a line of its metrics."""
    count, shapes = classifier.plan(run.config.classifier, run.train)
    each = 2 * classifier.PASSES * run.train.batch_size
    return {
        "kind": "networks",
        "env_steps": 0,
        "networks": {
            NETWORK: {
                "kept": count.kept,
                "total": count.total,
                "parameters": parameters(shapes),
                "layers": [
                    {"path": x.path, "shape": x.shape, "kept": x.kept, "total": x.total}
                    for x in count.layers
                ],
            }
        },
        # Masked weights multiply as dense ones.
        "flops_per_update": {
            "dense": each * count.total,
            "sparse": each * count.kept,
            "computed": each * count.total,
        },
    }
