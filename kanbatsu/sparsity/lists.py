"""Where the weights that a mask keeps belong, as numpy arrays in the order of the kernels."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Int

from kanbatsu.kernels.constants import BLOCK


def list_kept(
    mask: Bool[np.ndarray, "rows columns"],
) -> tuple[Int[np.ndarray, " starts"], Int[np.ndarray, " kept"], Int[np.ndarray, " kept"]]:
    """List the ones of a mask by block of rows, then by column, then by row.

    Returns:
        Where the list of each column of each block begins, with the end of the last one; and the
        row and the column of each one.

    Example:
        >>> starts, rows, columns = list_kept(np.array([[True, False], [True, True]]))
        >>> starts.tolist(), rows.tolist(), columns.tolist()
        ([0, 2, 3], [0, 1, 1], [0, 0, 1])
    """
    rows, columns = np.nonzero(mask)
    order = np.lexsort((rows, columns, rows // BLOCK))
    rows, columns = rows[order], columns[order]
    width = mask.shape[1]
    cells = np.arange(math.ceil(mask.shape[0] / BLOCK) * width + 1)
    return np.searchsorted(rows // BLOCK * width + columns, cells), rows, columns


def list_groups(
    mask: Bool[np.ndarray, "inputs outputs"], group_size: int
) -> Int[np.ndarray, "groups kept"] | None:
    """List the inputs that each group of neighbouring outputs keeps, ascending.

    Args:
        mask: True = kept.
        group_size: outputs per group; the last group may be smaller.

    Returns:
        None where the outputs of a group keep different inputs, or a group more than another.

    Example:
        >>> mask = np.repeat([[True, False], [False, True]], 8, axis=1)
        >>> list_groups(mask, 8).tolist(), list_groups(mask, 16)
        ([[0], [1]], None)
    """
    lists = mask[:, ::group_size]
    same = np.array_equal(np.repeat(lists, group_size, axis=1)[:, : mask.shape[1]], mask)
    kept = lists.sum(axis=0)
    if not same or np.ptp(kept) > 0:
        return None
    return np.nonzero(lists.T)[1].reshape(lists.shape[1], int(kept[0]))
