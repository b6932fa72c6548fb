"""How many weights each layer keeps: shapes and a sparsity become one integer per layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kanbatsu.sparsity.config import DISTRIBUTIONS, check_choice

Shape = tuple[int, ...]


def check_sparsity(sparsity: float) -> None:
    """Refuse a sparsity outside [0, 1).

    Raises:
        ValueError: if it is outside, or not a number.
    """
    if not 0.0 <= sparsity < 1.0:
        raise ValueError(
            f"sparsity must lie in [0, 1): got {sparsity}. It is the share of weights that is "
            "removed: 0 keeps all of them, 0.9 removes nine in ten."
        )


def allocate(
    shapes: Sequence[Shape],
    sparsity: float,
    distribution: str = "erk",
    granules: Sequence[int] | None = None,
) -> tuple[int, ...]:
    r"""Share out the weights that survive.

    The number kept in all is `round((1 - sparsity) * total)`, exactly. `uniform` gives every layer
    the same density. `er` and `erk` give layer l a density proportional to

    $$ \frac{n_{in} + n_{out}}{n_{in} n_{out}} \quad\text{(er)}, \qquad
       \frac{\sum_d n_d}{\prod_d n_d} \quad\text{(erk: all axes, the kernel's window too)} $$

    so that small layers stay denser; a layer that would pass 1 is kept whole and the rest share
    what is left. Fractions are settled by largest remainder, and every layer keeps at least one.

    Args:
        shapes: one per layer, `(*window, inputs, outputs)`.
        sparsity: share of weights removed, in [0, 1).
        distribution: `uniform`, `er` or `erk`.
        granules: the step in which each layer's count can move (1 by default). A grouped pattern
            moves in whole inputs of all outputs; the total is then the nearest that its layers
            reach without passing it, and never more than one step of a layer away.

    Returns:
        The number of weights kept in each layer.

    Raises:
        ValueError: for a sparsity outside [0, 1), an unknown distribution, no layers, or a
            sparsity so high that some layer would be empty (the message names the highest one
            that can be met).

    Example:
        >>> allocate([(88, 512), (512, 2048), (512, 1)], 0.9)
        (20678, 88224, 512)
        >>> sum(allocate([(3, 5), (5, 7)], 0.5)) == 25
        True

    Reference:
        Mocanu et al. 2018 (ER); Evci et al. 2020, "Rigging the Lottery", section 3 (ERK).
    """
    check_sparsity(sparsity)
    if not shapes:
        raise ValueError("there is nothing to prune: no layer has a prunable kernel")
    check_choice("distribution", distribution, DISTRIBUTIONS)
    sizes = np.array([math.prod(shape) for shape in shapes], dtype=np.int64)
    steps = np.ones_like(sizes) if granules is None else np.array(granules, dtype=np.int64)
    total = int(sizes.sum())
    target = round((1.0 - sparsity) * total)
    if target < steps.sum():
        raise ValueError(
            f"sparsity {sparsity} would keep {target} of {total} weights, but each of the "
            f"{len(sizes)} layers must keep at least {', '.join(map(str, steps))}: the highest "
            f"sparsity that can be met is {math.floor(1e6 * (1 - steps.sum() / total)) / 1e6}"
        )
    quotas = _quotas(shapes, sizes, target, distribution)
    return tuple(int(kept) for kept in _round_to(target, quotas, sizes, steps))


def _quotas(
    shapes: Sequence[Shape], sizes: np.ndarray, target: int, distribution: str
) -> np.ndarray:
    """What each layer should keep of `target`, before rounding; none more than it holds."""
    if distribution == "uniform":
        return target * sizes / sizes.sum()
    if distribution == "er":
        raw = np.array(
            [
                size * (s[-2] + s[-1]) / (s[-2] * s[-1])
                for size, s in zip(sizes, shapes, strict=True)
            ]
        )
    else:
        raw = np.array([float(sum(shape)) for shape in shapes])
    whole = np.zeros(len(sizes), dtype=bool)
    while True:
        scale = (target - sizes[whole].sum()) / raw[~whole].sum() if not whole.all() else 0.0
        over = ~whole & (scale * raw > sizes)
        if not over.any():
            return np.where(whole, sizes, scale * raw)
        whole |= over


def _round_to(target: int, quotas: np.ndarray, sizes: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Integers nearest to the quotas, in steps, at least one step each, summing to the target."""
    kept = np.maximum(np.floor(quotas / steps), 1).astype(np.int64) * steps
    # Layers that the "at least one" rule lifted may have overdrawn: the largest pay it back.
    while kept.sum() > target:
        layer = int(np.argmax(np.where(kept > steps, kept, 0)))
        kept[layer] -= steps[layer]
    missing = target - int(kept.sum())
    while missing:
        fits = (kept + steps <= sizes) & (steps <= missing)
        if not fits.any():
            break
        remainder = np.where(fits, (quotas - kept) / steps, -np.inf)
        layer = int(np.argmax(remainder))
        kept[layer] += steps[layer]
        missing -= int(steps[layer])
    return kept
