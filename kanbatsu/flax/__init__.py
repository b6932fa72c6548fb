"""Flax models, linen or nnx: modules that prune themselves, products with kept weights, probes."""

try:
    import flax as _  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "flax":
        raise
    raise ModuleNotFoundError(
        "kanbatsu.flax needs Flax: pip install 'kanbatsu[flax]'", name="flax"
    ) from error

from kanbatsu.flax.kept import to_dense, to_kept
from kanbatsu.flax.packing import pack_nnx, packed
from kanbatsu.flax.probing import probe
from kanbatsu.flax.pruning import masks, pruned

__all__ = ["masks", "pack_nnx", "packed", "probe", "pruned", "to_dense", "to_kept"]
