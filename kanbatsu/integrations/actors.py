"""The greedy actor of a PyTorch library's agent, and its way to the files of a policy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
import torch
from gymnasium.spaces import Discrete, MultiDiscrete, Space
from torch import Tensor, nn

from kanbatsu.deploy.contract import Contract, Moments
from kanbatsu.deploy.golden import TOLERANCE
from kanbatsu.deploy.seal import Key
from kanbatsu.deploy.write import Bound, Export, Original, write_policy
from kanbatsu.torch.deploy import Actions, read_policy
from kanbatsu.torch.evaluating import evaluating


class Options(TypedDict, total=False):
    """Arguments of every library's `export_policy`, by name."""

    contract: Contract | None
    key: Key | None
    tolerance: float
    onnx: bool | None
    c: bool


@dataclass(frozen=True)
class Actor:
    """What is written of a library's agent."""

    module: nn.Module
    """Module from an observation, `[batch, obs_dim]`, to what `actions` takes."""
    actions: Actions
    """Kind of the actions, as in `kanbatsu.torch.deploy.export_policy`."""
    act: Callable[[Tensor], Any]
    """Function with which the library itself acts, of the same observations."""
    name: str
    """Words for that function in the contract."""
    low: Bound = -np.inf
    """Lowest value of each entry of an action."""
    high: Bound = np.inf
    """Highest value likewise."""
    choices: Sequence[int] | None = None
    """Number of options of each choice, where there are several."""
    known: Contract = field(default_factory=Contract)
    """Contract with what the library's objects say."""
    moments: Moments | None = None
    """Moments of the observations that a normaliser has seen."""

    def write(
        self,
        out_dir: str | os.PathLike[str],
        contract: Contract | None = None,
        key: Key | None = None,
        tolerance: float = TOLERANCE,
        onnx: bool | None = None,
        c: bool = False,
    ) -> None:
        """Write the files of the policy, compared with what the library itself does.

        Args:
            out_dir: folder of its own.
            contract: names, units, licence, and whatever else the user knows.
            key: path of a key file to sign with.
            tolerance: largest difference from the library's action, in halves of its range.
            onnx: flag of `policy.onnx`.
            c: flag of `policy.c`.

        Raises:
            ValueError: the module has other layers than a policy can have.
            ParityError: the policy acts otherwise than the library does.
        """
        layers, _ = read_policy(
            self.module, actions=self.actions, low=self.low, high=self.high, choices=self.choices
        )
        device = next(self.module.parameters()).device

        def act(obs: np.ndarray) -> np.ndarray:
            with evaluating(self.module):
                actions = self.act(torch.as_tensor(obs, device=device))
            if isinstance(actions, Tensor):
                actions = actions.detach().cpu().numpy()
            actions = np.asarray(actions)
            return actions if self.actions == "argmax" else np.clip(actions, self.low, self.high)

        write_policy(
            layers,
            out_dir,
            Original(act, self.name),
            Export((contract or Contract()).over(self.known), key, tolerance, onnx, c),
            moments=self.moments,
            seen=None if self.moments is None else self.moments.count,
        )


def sizes_of_choices(space: Space) -> tuple[int, ...] | None:
    """Return the number of options of each choice; None of a space of numbers.

    Example:
        >>> sizes_of_choices(Discrete(4)), sizes_of_choices(MultiDiscrete([2, 3]))
        ((4,), (2, 3))
    """
    if isinstance(space, Discrete):
        return (int(space.n),)
    if isinstance(space, MultiDiscrete):
        return tuple(int(n) for n in np.ravel(space.nvec))
    return None


def largest_of_each(scores: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the number of the largest score of each choice.

    Args:
        scores: `[batch, sum of sizes]`.
        sizes: number of options of each choice.

    Example:
        >>> largest_of_each(torch.tensor([[0.0, 1.0, 5.0, 4.0]]), (2, 2))
        tensor([[1, 0]])
    """
    rows = scores.split(list(sizes), dim=-1)
    return torch.stack([row.argmax(dim=-1) for row in rows], dim=-1)


def leaves_of(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of a sequence, and of the sequences in it, in order.

    Example:
        >>> list(leaves_of(nn.Sequential(nn.Sequential(nn.ReLU()), nn.Tanh())))
        [ReLU(), Tanh()]
    """
    if isinstance(module, nn.Sequential):
        for part in module:
            yield from leaves_of(part)
    else:
        yield module


@contextmanager
def as_it_was(module: nn.Module) -> Iterator[None]:
    """Give a module back what a forward that is traced writes into it.

    Args:
        module: such as a model of skrl's that keeps its last features.
    """
    before = dict(vars(module))
    try:
        yield
    finally:
        vars(module).clear()
        vars(module).update(before)
