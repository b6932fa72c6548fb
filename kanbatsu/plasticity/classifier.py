"""A classifier on a stream of tasks: draws, learning and measuring, as functions of one seed."""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax
import optax
from jaxtyping import Array, Float, Int

from kanbatsu.agents.common import apply_gradient, trainable
from kanbatsu.nn.layers import Linear
from kanbatsu.nn.mlp import MLP
from kanbatsu.nn.network import Network
from kanbatsu.plasticity.config import ClassifierConfig, LabelStream
from kanbatsu.probes.health import network_health
from kanbatsu.sparsity.count import Count
from kanbatsu.sparsity.prune import make_masks_as, plan_as
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
    """State of Adam."""
    inputs: Float[Array, "inputs features"]


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


def begin(config: ClassifierConfig, stream: LabelStream, key: Key) -> Learner:
    """Draw a seed's inputs and weights, and prune them; a dense network gets masks that keep all.

    Masks are drawn on the host, and weights layer by layer: compiled as one, that takes far longer.

    Args:
        config: Shape and sparsity.
        stream: The sizes.
        key: The seed's.
    """
    input_key, network_key, mask_key, _ = _keys(key)
    masks = make_masks_as(_shapes(config, stream), config, mask_key)
    dense = dense_network(config, stream, network_key)
    network = with_masks(dense, masks, rescale=config.rescale)
    inputs = jax.random.normal(input_key, (stream.inputs, stream.features))
    moments = optax.adam(1.0).init(trainable(network))  # the same whatever the rate
    return Learner(network, moments, inputs)


def draw_task(stream: LabelStream, key: Key, task: Int[Any, ""]) -> tuple[Labels, Array]:
    """Draw a task: the label of each input, and the rows of each batch.

    Args:
        stream: The sizes.
        key: The seed's.
        task: Number of the task, from 0.

    Example:
        >>> import jax.numpy as jnp
        >>> labels, rows = draw_task(LabelStream(), jax.random.key(0), jnp.int32(0))
        >>> labels.shape, rows.shape
        ((256,), (100, 32))
    """
    label_key, row_key = jax.random.split(jax.random.fold_in(_keys(key)[3], task))
    labels = jax.random.randint(label_key, (stream.inputs,), 0, stream.classes)
    rows = jax.random.randint(row_key, (stream.steps, stream.batch_size), 0, stream.inputs)
    return labels, rows


def learn(
    stream: LabelStream, learner: Learner, key: Key, task: Int[Any, ""], rate: Float[Any, ""]
) -> tuple[Learner, dict[str, Scalar]]:
    """Learn one task.

    Args:
        stream: The sizes.
        learner: As the task before left it.
        key: The seed's.
        task: Number of the task, from 0.
        rate: Learning rate of Adam.

    Returns:
        What has learned, and `accuracy` and `loss` over all inputs at the end of the task.
    """
    labels, batches = draw_task(stream, key, task)
    optimizer = optax.adam(rate)

    def step(carry: tuple[Network, Any], rows: Array) -> tuple[tuple[Network, Any], None]:
        network, moments = carry
        gradient = eqx.filter_grad(loss)(network, learner.inputs[rows], labels[rows])
        return apply_gradient(optimizer, gradient, moments, network), None

    (network, moments), _ = jax.lax.scan(step, (learner.network, learner.moments), batches)
    facts = {
        "accuracy": accuracy(network, learner.inputs, labels),
        "loss": loss(network, learner.inputs, labels),
    }
    return Learner(network, moments, learner.inputs), facts


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
        >>> import jax.numpy as jnp
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
