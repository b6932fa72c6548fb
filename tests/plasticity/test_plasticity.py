"""The bench of plasticity: labels anew and inputs kept, seeds alone and together, and bad input."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.files.lock import StudyError
from kanbatsu.files.store import METRICS, RunFolder, StudyFolder
from kanbatsu.files.tables import RecordError, from_dict
from kanbatsu.plasticity import classifier
from kanbatsu.plasticity.bench import bench_from_dict, load_bench
from kanbatsu.plasticity.carry import carry_out, missing, work
from kanbatsu.plasticity.config import ClassifierConfig, LabelConfig, LabelRun, LabelStream
from kanbatsu.plasticity.train import train_side_by_side
from kanbatsu.sparsity.weight import Masked

KEY = jax.random.key(3)
STREAM = LabelStream(tasks=3, steps=4, inputs=64, features=5, batch_size=8, window=2, probe_every=2)
SPARSE = ClassifierConfig(width=8, blocks=2, sparsity=0.5)
STUDIES = Path(__file__).parents[2] / "studies"


def run(seed: int, config: ClassifierConfig = SPARSE) -> LabelRun:
    return LabelRun("labels/0.01", seed, STREAM.length, 0.01, LabelConfig(config), STREAM)


def table(**more) -> dict:
    arms = {
        "dense": {"classifier": {"width": 16}},
        "sparse": {"classifier": {"width": 16, "sparsity": 0.5}},
        "small": {"classifier": {"sparsity": 0.0}, "match": {"to": "sparse", "what": "kept"}},
    }
    stream = {"tasks": 2, "steps": 3, "inputs": 32, "features": 4, "window": 2}
    return {
        "question": "?",
        "seeds": 2,
        "control": "dense",
        "stream": stream,
        "classifier": {"blocks": 2},
        "arm": arms,
    } | more


def test_labels_and_batches_are_drawn_anew_for_each_task_and_seed():
    draws = [
        classifier.draw_task(LabelStream(), key, jnp.int32(task))
        for key in (KEY, jax.random.key(4))
        for task in range(2)
    ]
    for i, (labels, rows) in enumerate(draws):
        assert set(np.unique(labels)) == set(range(10))
        assert rows.min() >= 0
        assert rows.max() < 256
        for other_labels, other_rows in draws[:i]:
            # Two independent draws of ten classes agree on a tenth of 256; six deviations are .21.
            assert (labels == other_labels).mean() < 0.22
            assert (rows == other_rows).mean() < 0.1
    again, _ = classifier.draw_task(LabelStream(), KEY, jnp.int32(1))
    np.testing.assert_array_equal(again, draws[1][0])


def test_learning_leaves_inputs_and_pruned_weights_as_they_were():
    before = classifier.begin(SPARSE, STREAM, KEY)
    after = before
    for task in range(2):
        after, facts = classifier.learn(STREAM, after, KEY, jnp.int32(task), jnp.float32(0.01))
        assert np.isfinite(facts["loss"])
    np.testing.assert_array_equal(after.inputs, before.inputs)
    masked = [
        (old, new)
        for old, new in zip(
            jax.tree.leaves(before.network, is_leaf=lambda x: isinstance(x, Masked)),
            jax.tree.leaves(after.network, is_leaf=lambda x: isinstance(x, Masked)),
            strict=True,
        )
        if isinstance(old, Masked)
    ]
    assert len(masked) == 3
    for old, new in masked:
        assert (new.value[~old.mask] == 0).all()
        assert (new.value[old.mask] != old.value[old.mask]).any()
    kept = sum(old.kept for old, _ in masked)
    assert kept == classifier.plan(SPARSE, STREAM)[0].kept == (5 * 8 + 8 * 8 + 8 * 10) // 2


def test_a_constant_predictor_is_right_for_a_tenth():
    labels, _ = classifier.draw_task(LabelStream(inputs=10_000), KEY, jnp.int32(0))

    def constant(inputs: jax.Array) -> jax.Array:
        return jnp.tile(jax.nn.one_hot(3, 10), (len(inputs), 1))

    share = float(classifier.accuracy(constant, jnp.zeros((10_000, 1)), labels))
    assert share == pytest.approx(0.1, abs=0.012)  # four standard deviations
    assert share == pytest.approx(float((labels == 3).mean()))


def test_norm_and_residual_layers_by_hand():
    config = ClassifierConfig(width=6, blocks=2, norm="layernorm", residual=True)
    network = classifier.dense_network(config, STREAM, KEY)
    x = np.asarray(jax.random.normal(KEY, (3, 5)))

    def layer(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        y = x @ np.asarray(weight)
        centred = y - y.mean(-1, keepdims=True)
        return np.maximum(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6), 0.0)

    first = layer(x, network.encoder.layers[0].weight)
    second = layer(first, network.encoder.layers[1].weight)
    features, activations = network.encode(jnp.asarray(x))
    np.testing.assert_allclose(activations["hidden1"], second, atol=1e-5)
    np.testing.assert_allclose(features, first + second, atol=1e-5)


def test_a_seed_among_others_is_what_it_is_alone(tmp_path):
    together = [RunFolder(tmp_path / "together" / str(seed)) for seed in range(3)]
    train_side_by_side([run(seed) for seed in range(3)], together)
    alone = RunFolder(tmp_path / "alone")
    train_side_by_side([run(1)], [alone])
    ours, theirs = (
        [line for line in folder.metrics() if line["kind"] == "probe"]
        for folder in (alone, together[1])
    )
    assert len(ours) == STREAM.tasks
    for one, other in zip(ours, theirs, strict=True):
        assert one["metrics"].keys() == other["metrics"].keys()
        for name in ("accuracy", "loss"):
            value = one["metrics"][f"classifier/{name}"]
            assert value == pytest.approx(other["metrics"][f"classifier/{name}"], rel=1e-4)
    results = [line for line in alone.metrics() if line["kind"] == "evaluation"]
    accuracies = [line["metrics"]["classifier/accuracy"] for line in ours]
    assert [line["returns"] for line in results] == [accuracies[:1], accuracies[:2], accuracies[1:]]
    assert results[-1]["env_steps"] == 12
    # Health at the first task, at every second, and at the last.
    assert ["classifier/srank" in line["metrics"] for line in ours] == [True, True, True]
    assert from_dict(LabelRun, alone.read_config()) == run(1)


def test_a_study_that_was_stopped_ends_with_the_same_bytes(tmp_path):
    bench = bench_from_dict(table())
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    page = carry_out(bench, whole, say=lambda line: None)
    assert "dense" in page.read_text()
    assert missing(whole) == 0

    class Killed(Exception):
        pass

    done = []

    def kill(task: int) -> None:
        done.append(task)
        if len(done) == 4:  # within the second group, after its first task
            raise Killed

    prepared = StudyFolder(stopped)
    prepared.write_study(StudyFolder(whole).read_study())
    for group in bench.groups():
        for planned in group:
            source = StudyFolder(whole).run_folder(planned.run_id)
            prepared.run_folder(planned.run_id).write_config(source.read_config())
    done.append(0)
    with pytest.raises(Killed):
        work(stopped, lambda line: None, kill)
    assert missing(stopped) == 4
    said: list[str] = []
    carry_out(bench, stopped, say=said.append)
    assert len(said) == 2  # the group that was finished is left alone
    for path in sorted(whole.rglob(METRICS)):
        assert (stopped / path.relative_to(whole)).read_bytes() == path.read_bytes()
    assert (stopped / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()
    summary = json.loads((whole / "summary.json").read_text())
    kept = {arm["name"]: arm["networks"]["classifier"]["kept"] for arm in summary["arms"]}
    assert kept["sparse"] == kept["dense"] // 2
    assert abs(kept["small"] - kept["sparse"]) < 20
    with pytest.raises(StudyError, match="holds another study"):
        carry_out(replace(bench, seeds=(7,)), whole)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"seeds": []}, "seeds: must hold at least one"),
        ({"seeds": [1, 1]}, "seeds: each may be there once"),
        ({"learning_rates": [0.0]}, "learning_rates: must be greater than 0"),
        ({"contrl": "dense"}, "contrl: unknown setting. Did you mean 'control'?"),
        ({"control": "dens"}, "control: no arm is called 'dens'. Did you mean 'dense'?"),
        ({"stream": {"taks": 3}}, "stream.taks: unknown setting. Did you mean 'tasks'?"),
        ({"stream": {"tasks": 0}}, "stream.tasks must be greater than 0: got 0"),
        ({"arm": {}}, "needs at least one arm"),
        ({"arm": {"dense": 3}}, "arm.dense: must be a table"),
        ({"classifier": {"widht": 3}}, "classifier.widht: unknown setting. Did you mean 'width'?"),
        ({"classifier": {"norm": "batch"}}, "classifier.norm: must be one of 'none', 'layernorm'"),
        ({"classifier": {"compute": "packed"}}, "classifier.compute: must be one of 'masked'"),
        ({"classifier": {"sparsity": 1.5}}, "arm.dense: sparsity must"),
        (
            {"arm": {"dense": {"match": {"to": "x", "what": "kept"}}}},
            "match.to: 'x' must be an arm",
        ),
        (
            {"arm": {"dense": {"match": {"to": "dense", "what": "flops"}}}},
            "match.what: arms of the bench are matched in kept, not in flops",
        ),
    ],
)
def test_bad_input_is_refused_by_name(more, message):
    with pytest.raises(RecordError) as refused:
        bench_from_dict(table(**more))
    assert message in str(refused.value)


def test_the_studies_of_the_bench_are_sound():
    demo = load_bench(STUDIES / "plasticity-demo.toml", ["seeds=1", "stream.tasks=2"])
    assert (demo.seeds, demo.stream.tasks) == ((0,), 2)
    width = load_bench(STUDIES / "plasticity-width.toml")
    assert len(list(width.groups())) == 36
    assert min(width.seeds) >= 3000
    assert next(iter(width.matches())).startswith("small64-90 is matched to sparse64-90 in kept")
