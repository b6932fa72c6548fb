r"""Spectral normalisation: hidden layers multiply by $b\,W / \sigma(W)$, and what trains is $W$.

A network holds the weights that it multiplies by. The optimizer holds what leads back from them to
those that it trains: a scale and a direction for each matrix. So whatever else reads a network
(masks, probes, targets, files) needs to know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import KeyPath, tree_map_with_path
from jaxtyping import Array, Float

from kanbatsu.remedies.parts import Norms, Part, trainable
from kanbatsu.tree import leaves_by_path, path_name

ITERATIONS = 100
"""Steps of power iteration on a matrix that was drawn anew; each gradient step takes one more."""


class Normalised(NamedTuple):
    """State of an optimizer under spectral normalisation."""

    inner: Any
    """State of the optimizer itself."""
    norms: Norms


def spectral(
    optimizer: optax.GradientTransformation, bound: float, last: bool
) -> optax.GradientTransformation:
    r"""Train $W$, where a network multiplies by $\bar W = b\,W / \sigma(W)$.

    The gradient of $W$ is that of $\bar W$ through the division,
    $\tfrac{b}{\sigma}\,(G - \tfrac{1}{b}\langle G, \bar W\rangle\, v u^\top)$, with the singular
    vectors $u$ and $v$ of $\sigma$. A weight that is zero, as pruned ones are, gets none of the
    second part.

    Args:
        optimizer: of $W$.
        bound: $b$, the largest singular value of what the network multiplies by.
        last: whether only the last hidden matrix is normalised.

    Reference:
        Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks", equation
        12 and algorithm 1; of single layers, Gogianu et al. 2021, "Spectral Normalisation for Deep
        Reinforcement Learning: An Optimisation Perspective".
    """

    def init(params: Any) -> Normalised:
        matrices = hidden_matrices(params, last)
        scales = {path: jnp.ones(()) for path in matrices}
        vectors = {
            path: unit(jax.random.normal(jax.random.key(at), matrix.shape[1:]))
            for at, (path, matrix) in enumerate(matrices.items())
        }
        return Normalised(optimizer.init(params), Norms(scales, vectors, jnp.asarray(bound)))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Normalised]:
        scales, vectors, _ = state.norms

        def gradient(path: str, g: Array, now: Array) -> Array:
            into = unit(now @ vectors[path])
            along = jnp.where(now != 0, jnp.outer(into, vectors[path]), 0.0)
            return (g - (g * now).sum() / bound * along) / scales[path]

        at_weights = _on(scales, gradient, updates, params)
        trained = _on(scales, lambda path, now: scales[path] * now, params)
        steps, inner = optimizer.update(at_weights, state.inner, trained)
        moved = hidden_matrices(jax.tree.map(jnp.add, trained, steps), last)
        found = {path: iterated(matrix, vectors[path], 1) for path, matrix in moved.items()}
        new = {path: norm / bound for path, (norm, _) in found.items()}
        steps = _on(scales, lambda path, _, now: moved[path] / new[path] - now, steps, params)
        directions = {path: vector for path, (_, vector) in found.items()}
        return steps, Normalised(inner, Norms(new, directions, jnp.asarray(bound)))

    return optax.GradientTransformation(init, update)


def settled(part: Part) -> Part:
    """Normalise weights that were just drawn; a part without spectral normalisation stays.

    Args:
        part: its network and its target hold weights as they were drawn.

    Example:
        >>> weights = {"hidden": {"weight": jnp.diag(jnp.array([3.0, 1.0]))}}
        >>> moments = spectral(optax.sgd(1.0), bound=1.0, last=True).init(weights)
        >>> settled(Part(weights, moments)).network["hidden"]["weight"].round(3).tolist()
        [[1.0, 0.0], [0.0, 0.3330000042915344]]
    """
    if not isinstance(part.moments, Normalised):
        return part
    scales, vectors, bound = part.moments.norms

    def found_in(network: Any) -> dict[str, tuple[Array, Array]]:
        leaves = leaves_by_path(trainable(network))
        return {path: iterated(leaves[path], vectors[path], ITERATIONS) for path in scales}

    def divided(network: Any, found: dict[str, tuple[Array, Array]]) -> Any:
        return _on(scales, lambda path, matrix: matrix * (bound / found[path][0]), network)

    found = found_in(part.network)
    norms = Norms(
        {path: scales[path] * norm / bound for path, (norm, _) in found.items()},
        {path: vector for path, (_, vector) in found.items()},
        bound,
    )
    target = None if part.target is None else divided(part.target, found_in(part.target))
    return Part(divided(part.network, found), part.moments._replace(norms=norms), target)


def iterated(
    matrix: Float[Array, "inputs outputs"], vector: Float[Array, " outputs"], steps: int
) -> tuple[Float[Array, ""], Float[Array, " outputs"]]:
    """Estimate the largest singular value of a matrix, and its right singular vector.

    Args:
        matrix: masked weights as zeros.
        vector: where power iteration begins, of length 1.
        steps: of it.

    Example:
        >>> norm, vector = iterated(jnp.diag(jnp.array([3.0, 1.0])), unit(jnp.ones(2)), steps=20)
        >>> float(norm), vector.round(3).tolist()
        (3.0, [1.0, 0.0])
    """

    def step(_: Any, vector: Array) -> Array:
        return unit(unit(matrix @ vector) @ matrix)

    vector = jax.lax.fori_loop(0, steps, step, vector) if steps > 1 else step(0, vector)
    return jnp.linalg.norm(matrix @ vector) + SMALLEST, vector


SMALLEST = 1e-12
"""Added to lengths, so that a matrix of zeros is divided by something."""


def unit(vector: Float[Array, " n"]) -> Float[Array, " n"]:
    """Return a vector of length 1 in the same direction."""
    return vector / (jnp.linalg.norm(vector) + SMALLEST)


def hidden_matrices(tree: Any, last: bool) -> dict[str, Array]:
    """Return the matrices of a network that are in no head, by path; of several, of each.

    Args:
        tree: a network's trainable part, or several in a tuple.
        last: whether only the last one of each network is meant.

    Example:
        >>> of = {"encoder": [{"weight": jnp.ones((2, 2)), "bias": jnp.ones(2)}] * 2}
        >>> list(hidden_matrices(of | {"head": jnp.ones((2, 1))}, last=True))
        ['encoder/1/weight']
    """
    if isinstance(tree, tuple) and not hasattr(tree, "_fields"):
        return {
            f"{at}/{path}": matrix
            for at, each in enumerate(tree)
            for path, matrix in hidden_matrices(each, last).items()
        }
    leaves = leaves_by_path(trainable(tree))
    paths = [p for p, leaf in leaves.items() if leaf.ndim == 2 and p.split("/")[0] != "head"]
    return {path: leaves[path] for path in (paths[-1:] if last else paths)}


def _on(paths: Any, change: Callable[..., Array], *trees: Any) -> Any:
    """Change the leaves at some paths of a tree, given those of others like it."""

    def at(keys: KeyPath, *leaves: Any) -> Any:
        path = path_name(keys)
        return change(path, *leaves) if path in paths else leaves[0]

    return tree_map_with_path(at, *trees)
