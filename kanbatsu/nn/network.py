"""A network: an encoder and a head, drawn from a configuration and pruned once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from kanbatsu.nn.config import NetworkConfig
from kanbatsu.nn.mlp import MLP
from kanbatsu.nn.simba import SimBa
from kanbatsu.sparsity.prune import make_masks_as, prune_as
from kanbatsu.types import Key


class Network(eqx.Module):
    """A function from inputs to whatever its head returns."""

    encoder: SimBa | MLP
    head: eqx.Module

    def __call__(self, *inputs: Float[Array, "*batch _"]) -> Any:
        """Join the inputs on the last axis, encode them, and apply the head."""
        features, _ = self.encode(*inputs)
        return self.head(features)  # type: ignore[operator]

    def encode(
        self, *inputs: Float[Array, "*batch _"]
    ) -> tuple[Float[Array, "*batch width"], dict[str, Float[Array, "*batch hidden"]]]:
        """Return the last features and the outputs of every ReLU, by layer."""
        return self.encoder(jax.numpy.concatenate(inputs, axis=-1))


def make_network(
    config: NetworkConfig, inputs: int, make_head: Callable[..., eqx.Module], *, key: Key
) -> Network:
    """Initialise a network and prune it as its configuration says.

    The same key draws the same initial weights whatever the sparsity.

    Args:
        config: shape and sparsity.
        inputs: length of all inputs together.
        make_head: called with the width of the features and `key=`.
        key: draws the weights and the masks.

    Raises:
        ValueError: for a sparsity that the network cannot meet.

    Example:
        >>> from kanbatsu.nn.heads import ValueHead
        >>> import kanbatsu
        >>> config = NetworkConfig(width=16, blocks=1, sparsity=0.5)
        >>> critic = make_network(config, 5, ValueHead, key=jax.random.key(0))
        >>> critic(jax.numpy.ones((7, 3)), jax.numpy.ones((7, 2))).shape
        (7,)
        >>> kanbatsu.count(critic).sparsity
        0.5
    """
    network = make_dense_network(config, inputs, make_head, key=key)
    return prune_as(network, config, jax.random.split(key, 3)[2])


def make_dense_network(
    config: NetworkConfig, inputs: int, make_head: Callable[..., eqx.Module], *, key: Key
) -> Network:
    """Initialise the network that `make_network` prunes: a pure function of the key.

    Args: as for `make_network`.
    """
    encoder_key, head_key, _ = jax.random.split(key, 3)
    return Network(_encoder(config, inputs, encoder_key), make_head(config.width, key=head_key))


def _encoder(config: NetworkConfig, inputs: int, key: Key) -> SimBa | MLP:
    """Draw an encoder.

    Raises:
        ValueError: SimBa is asked for what only an MLP can be set to.
    """
    if config.network == "mlp":
        return MLP(
            inputs,
            config.width,
            config.blocks,
            norm=config.norm == "layernorm",
            residual=config.residual,
            scale=config.first_scale,
            key=key,
        )
    plain = NetworkConfig()
    for name in ("norm", "residual", "first_scale"):
        if getattr(config, name) != getattr(plain, name):
            raise ValueError(
                f'{name} is a setting of network = "mlp": SimBa has LayerNorm and residual blocks '
                "of its own. Remove it, or choose the MLP"
            )
    return SimBa(inputs, config.width, config.blocks, key=key)


def make_network_masks(
    config: NetworkConfig, inputs: int, make_head: Callable[..., eqx.Module], *, key: Key
) -> Any:
    """Draw, on the host, the masks that `make_network` draws for this key.

    Args: as for `make_network`.

    Returns:
        A tree like the network, with a mask in place of each kernel and None elsewhere, for
        `kanbatsu.sparsity.weight.with_masks`; of several keys, they may be stacked for `vmap`. A
        dense network's are True throughout.

    Raises:
        ValueError: as for `make_network`.
    """
    dense = make_dense_network(config, inputs, make_head, key=key)
    return make_masks_as(dense, config, jax.random.split(key, 3)[2])
