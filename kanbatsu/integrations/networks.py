"""The networks that a PyTorch library trains, pruned by what they do: actor and critic apart."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypedDict

from torch import nn
from torch.optim import Optimizer

from kanbatsu.sparsity.config import pruning_of
from kanbatsu.sparsity.draw import Scope
from kanbatsu.sparsity.kernel import Paths
from kanbatsu.torch.find import find_kernels, layers_by_path
from kanbatsu.torch.loading import check_when_loading
from kanbatsu.torch.pruning import apply_masks, prune_as
from kanbatsu.torch.reading import masks

DEFAULT = 0.8
"""The sparsity of a network that nothing is said about."""


class Choices(TypedDict, total=False):
    """Arguments of `kanbatsu.torch.prune` that every adapter takes too, by name."""

    seed: int
    distribution: str
    pattern: str
    group_size: int
    include: Paths | None
    exclude: Paths | None
    compute: str


@dataclass(frozen=True)
class Networks:
    """The networks that a library trains, sorted: the modules themselves, not copies."""

    owner: str
    """The trainer, agent or algorithm that holds the networks, as a message calls it."""
    parts: Mapping[str, Mapping[str, nn.Module]]
    """Networks that are trained, by `actor` or `critic` and by a name of their own."""
    targets: Mapping[str, nn.Module]
    """Target networks by the path of what they follow, such as `critic.critic_1`."""
    optimizers: tuple[Optimizer, ...]
    """Optimizers of the networks: they hold moments once anything was learned."""

    def prune(
        self,
        shares: Mapping[str, float | None],
        seed: int = 0,
        distribution: str = "erk",
        pattern: str = "element",
        group_size: int = 16,
        include: Paths | None = None,
        exclude: Paths | None = None,
        compute: str = "auto",
    ) -> None:
        """Prune the networks in place, each part by its share, and targets like what they follow.

        The networks of one part share out its sparsity together, and each draws masks of its own,
        even where one began as a copy of the other.

        Args:
            shares: sparsity by part; None is 0.8 where there is such a part, and 0 leaves it dense.
            seed: decides which weights go; a whole number below 2**32.
            distribution: how a sparsity is spread over layers: `uniform`, `er` or `erk`.
            pattern: `element`, `grouped` or `bernoulli`; see `kanbatsu.torch.prune`.
            group_size: outputs per group, for `grouped`.
            include: globs of the only layers to prune, such as `critic.*`.
            exclude: globs of layers to leave dense.
            compute: how pruned layers multiply; see `kanbatsu.torch.prune`.

        Raises:
            ValueError: for a share of a part that is not there, networks that are pruned or have
                learned, a target unlike what it follows, and whatever `kanbatsu.torch.prune`
                refuses. Everything is then as it was.
        """
        pruning = pruning_of(0.0, distribution, pattern, group_size, compute)
        wanted = self._wanted(shares)
        self._check()
        if not wanted:
            return
        module = nn.ModuleDict({name: nn.ModuleDict(self.parts[name]) for name in wanted})
        by_glob = {f"{name}.*": share for name, share in wanted.items()}
        scope = Scope(include, exclude, shares=by_glob)
        self._check_targets(k.path for k in find_kernels(module, scope.included, scope.exclude))
        prune_as(module, pruning, seed, scope, with_copies=False)
        for networks in self.parts.values():
            for network in networks.values():
                if masks(network):
                    check_when_loading(network)
        for path, target in self.targets.items():
            part, _, name = path.partition(".")
            if drawn := masks(self.parts[part][name]):
                apply_masks(target, drawn, compute)

    def _wanted(self, shares: Mapping[str, float | None]) -> dict[str, float]:
        """The parts to prune, with their shares."""
        for name, share in shares.items():
            if share and name not in self.parts:
                raise ValueError(
                    f"{self.owner} has no {name} to prune, only {' and '.join(self.parts)}: leave "
                    f"{name}={share} out"
                )
        known = {name: shares.get(name) for name in self.parts}
        filled = {name: DEFAULT if share is None else share for name, share in known.items()}
        return {name: share for name, share in filled.items() if share}

    def _check(self) -> None:
        """Refuse networks that are pruned already, or have learned."""
        networks = [network for part in self.parts.values() for network in part.values()]
        if any(masks(network) for network in [*networks, *self.targets.values()]):
            raise ValueError(
                f"{self.owner} is already pruned; prune a fresh one (see kanbatsu.torch.count for "
                "what it keeps)"
            )
        if any(optimizer.state for optimizer in self.optimizers):
            raise ValueError(
                f"{self.owner} has been trained: prune it before it learns or loads anything, so "
                "that its optimizers hold no moments of pruned weights"
            )

    def _check_targets(self, paths: Iterable[str]) -> None:
        """Refuse a target network that cannot take the masks of what it follows."""
        paths = list(paths)
        for path, target in self.targets.items():
            part, _, name = path.partition(".")
            ends = [p.removeprefix(f"{path}.") for p in paths if p.startswith(f"{path}.")]
            if not ends:
                continue
            layers = layers_by_path(target)
            if missing := [end for end in ends if end not in layers]:
                raise ValueError(
                    f"the target of {path} is unlike it: it has no {', '.join(missing)}, and "
                    "nothing was changed"
                )
            source = self.parts[part][name]
            for kernel in find_kernels(target, include=[glob.escape(end) for end in ends]):
                shape = tuple(source.get_parameter(kernel.path).shape)
                if kernel.stored != shape:
                    raise ValueError(
                        f"the target of {path} is unlike it: {kernel.path} is {kernel.stored} in "
                        f"the target and {shape} in what it follows, and nothing was changed"
                    )
