"""Networks that see images: an encoder of convolutions, and behind it an actor and a critic.

Both begin with a trunk of their own, a narrow layer with LayerNorm and tanh, on what the encoder
returns. Most weights are there and in the heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from kanbatsu.nn.conv import Conv
from kanbatsu.nn.layers import LayerNorm, Linear
from kanbatsu.nn.mlp import MLP
from kanbatsu.nn.pixel_config import (
    EncoderConfig,
    HeadedShape,
    PixelActorConfig,
    PixelCriticConfig,
)
from kanbatsu.sparsity.prune import make_masks_as, prune_as
from kanbatsu.sparsity.weight import with_masks
from kanbatsu.types import Key

STRIDES = {"full": (2, 1, 1, 1), "small": (2, 2, 2, 1), "gap": (2, 1, 1, 1)}
"""Pixels between two patches of each convolution, by the kind of encoder (DrQ-v2: full)."""
WINDOW = 3
"""Height and width of a convolution's kernel (DrQ-v2: 3)."""

_ORTHOGONAL = jax.nn.initializers.orthogonal(1.0)
_FOR_RELU = jax.nn.initializers.orthogonal(math.sqrt(2.0))


class Encoder(eqx.Module):
    """Convolutions with ReLU; then all pixels, or the mean over them, as one vector."""

    convs: tuple[Conv, ...]
    pooled: bool = eqx.field(static=True)

    def __call__(self, obs: Num[Array, "*batch height width channels"]) -> Float[Array, "*batch _"]:
        """Return the features of images; those of bytes are brought to [-0.5, 0.5] first."""
        return self.encode(obs)[0]

    def encode(
        self, obs: Num[Array, "*batch height width channels"]
    ) -> tuple[Float[Array, "*batch _"], dict[str, Float[Array, "*batch _"]]]:
        """Return the features, and the outputs of every ReLU by layer, for the probes."""
        x = obs.astype(jnp.float32) / 255.0 - 0.5 if obs.dtype == jnp.uint8 else obs
        activations = {}
        for index, conv in enumerate(self.convs):
            x = jax.nn.relu(conv(x))
            activations[f"conv{index}"] = x.reshape(*x.shape[:-3], -1)
        return (x.mean(axis=(-3, -2)) if self.pooled else x.reshape(*x.shape[:-3], -1)), activations


class Trunk(eqx.Module):
    """A linear layer, LayerNorm and tanh."""

    linear: Linear
    norm: LayerNorm

    def __init__(self, inputs: int, features: int, *, key: Key):
        self.linear = Linear(inputs, features, _ORTHOGONAL, key=key)
        self.norm = LayerNorm(features)

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch features"]:
        """Map what the encoder returns."""
        return jnp.tanh(self.norm(self.linear(x)))


class Head(eqx.Module):
    """Hidden layers with ReLU, and a last one without."""

    hidden: MLP
    last: Linear

    def __init__(self, inputs: int, shape: HeadedShape, outputs: int, *, key: Key):
        hidden_key, last_key = jax.random.split(key)
        # An MLP's kernels are drawn for the ReLU; those of DrQ-v2 are smaller by this factor.
        scale = 1.0 / math.sqrt(2.0)
        self.hidden = MLP(inputs, shape.width, shape.blocks, scale=scale, key=hidden_key)
        self.last = Linear(shape.width, outputs, _ORTHOGONAL, key=last_key)


class PixelActor(eqx.Module):
    """A deterministic action in [-1, 1], of what the encoder returns."""

    trunk: Trunk
    heads: tuple[Head]

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch action_dim"]:
        """Return the action."""
        return jnp.tanh(self.heads[0].last(self.encode(x)[0]))

    def encode(
        self, x: Float[Array, "*batch inputs"]
    ) -> tuple[Float[Array, "*batch width"], dict[str, Float[Array, "*batch width"]]]:
        """Return the last features, and the outputs of every ReLU by layer, for the probes."""
        return self.heads[0].hidden(self.trunk(x))


class PixelCritic(eqx.Module):
    """The value of an action by every head, of what the encoder returns."""

    trunk: Trunk
    heads: tuple[Head, ...]

    def __call__(
        self, x: Float[Array, "*batch inputs"], action: Float[Array, "*batch action_dim"]
    ) -> Float[Array, "heads *batch"]:
        """Return the values by the heads."""
        joined = jnp.concatenate([self.trunk(x), action], axis=-1)
        return jnp.stack([head.last(head.hidden(joined)[0])[..., 0] for head in self.heads])

    def encode(
        self, x: Float[Array, "*batch inputs"], action: Float[Array, "*batch action_dim"]
    ) -> tuple[Float[Array, "*batch width"], dict[str, Float[Array, "*batch width"]]]:
        """Return the last features of the first head, and the outputs of all ReLUs by layer."""
        joined = jnp.concatenate([self.trunk(x), action], axis=-1)
        each = [head.hidden(joined) for head in self.heads]
        activations = {
            f"head{index}_{layer}": units
            for index, (_, layers) in enumerate(each)
            for layer, units in layers.items()
        }
        return each[0][0], activations


def make_pixel_networks(
    encoder: EncoderConfig,
    actor: PixelActorConfig,
    critic: PixelCriticConfig,
    obs_shape: tuple[int, ...],
    action_dim: int,
    *,
    key: Key,
    masks: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Initialise the three networks, and prune each as its configuration says, or with masks given.

    The same key draws the same initial weights whatever the sparsities. Masks are drawn on the
    host; inside `jit` or `vmap` they must be given, as `make_pixel_masks` draws them.

    Args:
        encoder: kind, size and sparsity of what both others see through.
        actor: sizes and sparsities of the policy.
        critic: sizes and sparsities of the critic.
        obs_shape: `(height, width, channels)`.
        action_dim: length of an action.
        key: draws the weights, and the masks where none are given.
        masks: by network, a tree like it with a mask in place of each kernel and None elsewhere.

    Returns:
        `encoder`, `actor` and `critic`.

    Raises:
        ValueError: for a sparsity that a network cannot meet, observations that are no images, or
            images too small for the convolutions.

    Example:
        >>> small = EncoderConfig(network="small", channels=4), PixelActorConfig(width=8)
        >>> critic, key = PixelCriticConfig(width=8), jax.random.key(0)
        >>> made = make_pixel_networks(*small, critic, (36, 36, 9), 2, key=key)
        >>> seen = made["encoder"](jnp.zeros((5, 36, 36, 9), jnp.uint8))
        >>> made["critic"](seen, made["actor"](seen)).shape
        (2, 5)

    Reference:
        Yarats et al. 2021, "Mastering Visual Continuous Control: Improved Data-Augmented
        Reinforcement Learning", arXiv 2107.09645.
    """
    configs = {"encoder": encoder, "actor": actor, "critic": critic}
    dense = _dense(encoder, actor, critic, obs_shape, action_dim, key)
    if masks is not None:
        return {
            name: with_masks(network, masks[name], rescale=configs[name].rescale)
            for name, network in dense.items()
        }
    keys = _mask_keys(key)
    return {name: prune_as(network, configs[name], keys[name]) for name, network in dense.items()}


def make_pixel_masks(
    encoder: EncoderConfig,
    actor: PixelActorConfig,
    critic: PixelCriticConfig,
    obs_shape: tuple[int, ...],
    action_dim: int,
    *,
    key: Key,
) -> dict[str, Any]:
    """Draw, on the host, the masks that `make_pixel_networks` draws for this key.

    Args: as for `make_pixel_networks`.
    """
    configs = {"encoder": encoder, "actor": actor, "critic": critic}
    dense, keys = _dense(encoder, actor, critic, obs_shape, action_dim, key), _mask_keys(key)
    return {
        name: make_masks_as(network, configs[name], keys[name]) for name, network in dense.items()
    }


def _mask_keys(key: Key) -> dict[str, Key]:
    return dict(zip(("encoder", "actor", "critic"), jax.random.split(key, 6)[3:], strict=True))


def _dense(
    encoder: EncoderConfig,
    actor: PixelActorConfig,
    critic: PixelCriticConfig,
    obs_shape: tuple[int, ...],
    action_dim: int,
    key: Key,
) -> dict[str, Any]:
    """Draw the networks before they are pruned."""
    encoder_key, actor_key, critic_key = jax.random.split(key, 6)[:3]
    made = _encoder(encoder, obs_shape, encoder_key)
    seen = jax.eval_shape(made, jax.ShapeDtypeStruct(obs_shape, jnp.uint8)).shape[-1]
    trunk_key, *head_keys = jax.random.split(actor_key, 2)
    policy = PixelActor(
        Trunk(seen, actor.features, key=trunk_key),
        (Head(actor.features, actor, action_dim, key=head_keys[0]),),
    )
    trunk_key, *head_keys = jax.random.split(critic_key, 1 + critic.members)
    inputs = critic.features + action_dim
    values = PixelCritic(
        Trunk(seen, critic.features, key=trunk_key),
        tuple(Head(inputs, critic, 1, key=own) for own in head_keys),
    )
    return {"encoder": made, "actor": policy, "critic": values}


def _encoder(config: EncoderConfig, obs_shape: tuple[int, ...], key: Key) -> Encoder:
    """Draw an encoder.

    Raises:
        ValueError: there are no images, or they are too small.
    """
    if len(obs_shape) != 3:
        raise ValueError(
            f"an encoder of convolutions sees images, and observations of shape {obs_shape} are "
            "none: use an agent for vectors, such as sac"
        )
    height, width, channels = obs_shape
    left, convs = min(height, width), []
    strides = STRIDES[config.network]
    for index, (stride, own) in enumerate(zip(strides, jax.random.split(key, 4), strict=True)):
        left = (left - WINDOW) // stride + 1
        if left < 1:
            raise ValueError(
                f"images of {height} x {width} pixels are too small for an encoder of kind "
                f"{config.network!r}: nothing is left for convolution {index + 1} of {len(strides)}"
            )
        inputs = channels if index == 0 else config.channels
        convs.append(Conv(inputs, config.channels, _FOR_RELU, stride=stride, direct=True, key=own))
    return Encoder(tuple(convs), config.network == "gap")
