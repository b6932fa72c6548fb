"""Dormant units: how many of a layer's units hardly ever fire.

Activations are arrays of JAX or of numpy, and so is what is returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Bool, Float


def dormant_units(activations: Float[Any, "batch units"], tau: float) -> Bool[Any, " units"]:
    r"""Find the units of one layer whose share of its activity is at most `tau`.

    $$ s_i = \frac{\mathbb{E}_x |h_i(x)|}{\frac1H \sum_k \mathbb{E}_x |h_k(x)|} \le \tau $$

    Args:
        activations: what comes out of the activation function.
        tau: threshold on the normalised score; a layer that never fires is dormant throughout.

    Returns:
        True for each dormant unit.

    Example:
        >>> import jax.numpy as jnp
        >>> dormant_units(jnp.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]), tau=0.1)
        Array([ True, False, False], dtype=bool)

    Reference:
        Sokar et al. 2023, "The Dormant Neuron Phenomenon in Deep RL", definition 3.1.
    """
    score = abs(activations).mean(axis=0)
    return score <= tau * score.mean()


def dormant_ratio(
    activations: Mapping[str, Float[Any, "batch _"]], tau: float
) -> dict[str, Float[Any, ""]]:
    """Share of dormant units, of each layer and (under the empty name) of all units together.

    Example:
        >>> import jax.numpy as jnp
        >>> layers = {"a": jnp.array([[0.0, 1.0]]), "b": jnp.array([[1.0, 1.0, 1.0, 1.0]])}
        >>> {name: round(float(ratio), 3) for name, ratio in dormant_ratio(layers, 0.1).items()}
        {'': 0.167, 'a': 0.5, 'b': 0.0}
    """
    dormant = {name: dormant_units(layer, tau) for name, layer in activations.items()}
    units = list(dormant.values())
    return {"": units[0].__array_namespace__().concatenate(units).mean()} | {
        name: layer.mean() for name, layer in dormant.items()
    }
