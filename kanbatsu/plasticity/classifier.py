"""A classifier on a stream of tasks: draws, learning and measuring, as functions of one seed."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from kanbatsu.agents.common import apply_gradient, trainable
from kanbatsu.nn.layers import Linear
from kanbatsu.nn.mlp import MLP
from kanbatsu.nn.network import Network
from kanbatsu.plasticity.config import ClassifierConfig, LabelStream
from kanbatsu.probes.health import network_health
from kanbatsu.remedies.parts import Part, parts_of, unmasked, with_parts
from kanbatsu.remedies.records import Remedy
from kanbatsu.remedies.spectral import settled
from kanbatsu.remedies.terms import with_decay, with_terms
from kanbatsu.remedies.treat import Clock, Tally, Tools, added, empty_tally, treat
from kanbatsu.sparsity.prune import make_masks_as, plan_as
from kanbatsu.sparsity.table import Count
from kanbatsu.sparsity.weight import with_masks
from kanbatsu.types import Key

Scalar = Float[Array, ""]
Labels = Int[Array, " inputs"]

PASSES = 3
"""Products with each kernel per gradient step and input: forward, input and weight gradients."""


class Learner(eqx.Module):
    """All that goes from one task to the next."""

    network: Network
    moments: Any
    """State of Adam, and of the terms that remedies add to it."""
    inputs: Float[Array, "inputs features"]
    tally: Tally = eqx.field(default_factory=dict)
    """Counts of what remedies did; empty where there are none."""


class Treatment(NamedTuple):
    """The remedies of a classifier, and what they must know of it."""

    remedies: tuple[Remedy, ...] = ()
    config: ClassifierConfig | None = None
    """The classifier's shape; None where there are no remedies."""


UNTREATED = Treatment()


def dense_network(config: ClassifierConfig, stream: LabelStream, key: Key) -> Network:
    """Draw the network that `begin` prunes."""
    encoder_key, head_key = jax.random.split(key)
    norm = config.norm == "layernorm"
    encoder = MLP(
        stream.features,
        config.width,
        config.blocks,
        norm=norm,
        residual=config.residual,
        key=encoder_key,
    )
    orthogonal = jax.nn.initializers.orthogonal(1.0)
    return Network(encoder, Linear(config.width, stream.classes, orthogonal, key=head_key))


def plan(config: ClassifierConfig, stream: LabelStream) -> tuple[Count, Network]:
    """Say what a network keeps, and its shapes, without drawing a number.

    Raises:
        ValueError: The sparsity cannot be met.

    Example:
        >>> plan(ClassifierConfig(width=256, sparsity=0.9), LabelStream())[0].kept
        33843
    """
    shapes = _shapes(config, stream)
    return plan_as(shapes, config), shapes


def begin(
    config: ClassifierConfig, stream: LabelStream, key: Key, remedies: tuple[Remedy, ...] = ()
) -> Learner:
    """Draw a seed's inputs and weights, and prune them; a dense network gets masks that keep all.

    Masks are drawn on the host, and weights layer by layer: compiled as one, that takes far longer.

    Args:
        config: Shape and sparsity.
        stream: The sizes.
        key: The seed's.
        remedies: Those of the run.
    """
    input_key, network_key, mask_key, _ = _keys(key)
    masks = make_masks_as(_shapes(config, stream), config, mask_key)
    dense = dense_network(config, stream, network_key)
    network = with_masks(dense, masks, rescale=config.rescale)
    inputs = jax.random.normal(input_key, (stream.inputs, stream.features))
    moments = _optimizer(1.0, remedies).init(trainable(network))  # the same whatever the rate
    part = settled(Part(network, moments))
    return Learner(part.network, part.moments, inputs, empty_tally(remedies))


def draw_task(stream: LabelStream, key: Key, task: Int[Any, ""]) -> tuple[Labels, Array]:
    """Draw a task: the label of each input, and the rows of each batch.

    Args:
        stream: The sizes.
        key: The seed's.
        task: Number of the task, from 0.

    Example:
        >>> labels, rows = draw_task(LabelStream(), jax.random.key(0), jnp.int32(0))
        >>> labels.shape, rows.shape
        ((256,), (100, 32))
    """
    label_key, row_key = jax.random.split(jax.random.fold_in(_keys(key)[3], task))
    labels = jax.random.randint(label_key, (stream.inputs,), 0, stream.classes)
    rows = jax.random.randint(row_key, (stream.steps, stream.batch_size), 0, stream.inputs)
    return labels, rows


def learn(
    stream: LabelStream,
    learner: Learner,
    key: Key,
    task: Int[Any, ""],
    rate: Float[Any, ""],
    treatment: Treatment = UNTREATED,
) -> tuple[Learner, dict[str, Scalar]]:
    """Learn one task.

    Args:
        stream: The sizes.
        learner: As the task before left it.
        key: The seed's.
        task: Number of the task, from 0.
        rate: Learning rate of Adam.
        treatment: Remedies, which see all inputs with the labels of the task.

    Returns:
        What has learned, and `accuracy` and `loss` over all inputs at the end of the task.
    """
    labels, batches = draw_task(stream, key, task)
    optimizer = _optimizer(rate, treatment.remedies)
    inputs = learner.inputs

    def step(learner: Learner, item: tuple[Array, Array]) -> tuple[Learner, None]:
        rows, done = item
        learner = _treated(treatment, stream, learner, labels, key, done, shocks=True)
        gradient = eqx.filter_grad(loss)(learner.network, inputs[rows], labels[rows])
        network, moments = apply_gradient(optimizer, gradient, learner.moments, learner.network)
        learner = Learner(network, moments, learner.inputs, learner.tally)
        return _treated(treatment, stream, learner, labels, key, done + 1, shocks=False), None

    steps = task * stream.steps + jnp.arange(stream.steps, dtype=jnp.int32)
    learner, _ = jax.lax.scan(step, learner, (batches, steps))
    facts = {
        "accuracy": accuracy(learner.network, inputs, labels),
        "loss": loss(learner.network, inputs, labels),
    }
    return learner, facts


def _treated(
    treatment: Treatment,
    stream: LabelStream,
    learner: Learner,
    labels: Labels,
    key: Key,
    done: Int[Array, ""],
    shocks: bool,
) -> Learner:
    """Carry out the remedies that are due after so many gradient steps, those of one sort."""
    if treatment.config is None:
        return learner
    config, inputs = treatment.config, learner.inputs

    def gradients(parts: Any) -> dict[str, Any]:
        lifted = unmasked(parts["classifier"].network)
        return {"classifier": eqx.filter_grad(loss)(lifted, inputs, labels)}

    tools = Tools(
        lambda own: {"classifier": dense_network(config, stream, own)},
        lambda parts: {"classifier": [parts["classifier"].network.encode(inputs)[1]]},
        gradients,
    )
    clock = Clock(jnp.maximum(done - 1, 0), done, stream.length)
    own_key = jax.random.fold_in(jax.random.fold_in(key, 0x2E3ED1), done)
    parts, tally = treat(treatment.remedies, parts_of(learner), tools, clock, own_key, shocks)
    learner = with_parts(learner, parts)
    return Learner(learner.network, learner.moments, inputs, added(learner.tally, tally))


def _optimizer(rate: Any, remedies: tuple[Remedy, ...]) -> optax.GradientTransformation:
    """Return Adam, with the terms that remedies add."""
    return with_terms(with_decay(optax.adam(rate), rate, remedies), remedies, "classifier")


def probe(stream: LabelStream, learner: Learner, key: Key, task: Int[Any, ""]) -> dict[str, Scalar]:
    """Measure the network's health on all inputs, with the labels of a task."""
    labels, _ = draw_task(stream, key, task)
    gradient = eqx.filter_grad(loss)(learner.network, learner.inputs, labels)
    encoded = learner.network.encode(learner.inputs)
    return network_health(learner.network, gradient, *encoded)


def loss(network: Network, inputs: Array, labels: Array) -> Scalar:
    """Mean cross-entropy of the labels."""
    return optax.softmax_cross_entropy_with_integer_labels(network(inputs), labels).mean()


def accuracy(network: Any, inputs: Array, labels: Array) -> Scalar:
    """Share of inputs whose likeliest class is their label.

    Example:
        >>> logits = jnp.array([[2.0, 1.0], [0.0, 1.0]])
        >>> accuracy(lambda inputs: inputs, logits, jnp.array([0, 0]))
        Array(0.5, dtype=float32)
    """
    return (network(inputs).argmax(axis=-1) == labels).mean()


def _shapes(config: ClassifierConfig, stream: LabelStream) -> Any:
    return jax.eval_shape(partial(dense_network, config, stream), jax.random.key(0))


def _keys(key: Key) -> Key:
    """Split a seed's key: inputs, weights, mask, tasks."""
    return jax.random.split(key, 4)
