"""The same masks on PyTorch modules: prune one in place, count it, look inside, turn it back."""

try:
    import torch as _torch  # noqa: F401  (asked for first, so that its absence is said plainly)
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        "kanbatsu.torch needs PyTorch: pip install 'kanbatsu[torch]'", name="torch"
    ) from error

from kanbatsu.torch.counting import count
from kanbatsu.torch.probing import probe
from kanbatsu.torch.pruning import apply_masks, prune, prune_like
from kanbatsu.torch.reading import masks
from kanbatsu.torch.settling import settle
from kanbatsu.torch.simba import SimBa
from kanbatsu.torch.stored import dense_state_dict
from kanbatsu.torch.thinning import unprune

__all__ = [
    "SimBa",
    "apply_masks",
    "count",
    "dense_state_dict",
    "masks",
    "probe",
    "prune",
    "prune_like",
    "settle",
    "unprune",
]
