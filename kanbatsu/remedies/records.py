"""Remedies as records of a study file: what each may be set to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from kanbatsu.ranges import Natural, NotNegative, Positive, Share, Whole
from kanbatsu.sparsity.config import Distribution

Networks = Literal["all", "actor", "critic"]


@dataclass(frozen=True, kw_only=True)
class Reset:
    """Networks drawn anew with new keys; what was seen (replay, normaliser) is kept.

    Reference:
        Nikishin et al. 2022, "The Primacy Bias in Deep Reinforcement Learning".
    """

    kind: Literal["reset"] = "reset"
    """Name of the remedy."""
    every: Natural
    """Env steps between two resets; the end of the run is none."""
    of: Networks = "all"
    """Networks that are reset, each with its optimizer and target; the temperature goes with the
    actor."""
    part: Literal["network", "head"] = "network"
    """Part of a network that is reset: all of it, or its head alone."""
    mask: Literal["kept", "new"] = "kept"
    """Mask of a sparse network after a reset: the one that it had, or one drawn anew with the same
    count in each layer."""


@dataclass(frozen=True, kw_only=True)
class ShrinkPerturb:
    """Weights made smaller, and mixed with weights as they would be drawn at the start.

    Reference:
        Ash and Adams 2020, "On Warm-Starting Neural Network Training".
    """

    kind: Literal["shrink_perturb"] = "shrink_perturb"
    """Name of the remedy."""
    every: Natural
    """Env steps between two such steps."""
    of: Networks = "all"
    """Networks that are shrunk and perturbed."""
    shrink: Share = 0.8
    """Factor that every weight is multiplied by."""
    perturb: NotNegative = 0.2
    """Factor of the freshly drawn weights that are added."""


@dataclass(frozen=True, kw_only=True)
class ReDo:
    """Dormant units recycled: drawn anew at their inputs, silent at their outputs.

    Reference:
        Sokar et al. 2023, "The Dormant Neuron Phenomenon in Deep Reinforcement Learning".
    """

    kind: Literal["redo"] = "redo"
    """Name of the remedy."""
    every: Natural
    """Env steps between two looks at the units."""
    threshold: NotNegative = 0.025
    """Share of a layer's mean activity up to which a unit is dormant."""
    of: Networks = "all"
    """Networks whose units are recycled."""
    samples: Natural = 1_024
    """Latest samples that were learned from, on which activity is measured."""


@dataclass(frozen=True, kw_only=True)
class L2Init:
    """Regularisation of all weights and biases towards their first values.

    Reference:
        Kumar, Marklund and Van Roy 2023, "Maintaining Plasticity in Continual Learning via
        Regenerative Regularization".
    """

    kind: Literal["l2_init"] = "l2_init"
    """Name of the remedy."""
    strength: Positive = 1e-3
    """Factor of the squared distance that is added to the loss."""


@dataclass(frozen=True, kw_only=True)
class WeightDecay:
    """Decoupled weight decay, as AdamW has it, in place of what the agent has by default.

    Reference:
        Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization".
    """

    kind: Literal["weight_decay"] = "weight_decay"
    """Name of the remedy."""
    rate: NotNegative
    """Share of a weight that goes with every step, before the step size."""


@dataclass(frozen=True, kw_only=True)
class SpectralNorm:
    """Spectral normalisation: hidden matrices are divided by their largest singular value.

    Reference:
        Gogianu et al. 2021, "Spectral Normalisation for Deep Reinforcement Learning: An
        Optimisation Perspective".
    """

    kind: Literal["spectral_norm"] = "spectral_norm"
    """Name of the remedy."""
    layers: Literal["last", "all"] = "last"
    """Matrices that are normalised: the last one before the head, or all outside the head."""
    bound: Positive = 1.0
    """Largest singular value that a normalised matrix has."""
    of: Networks = "all"
    """Networks whose hidden layers are normalised."""


@dataclass(frozen=True, kw_only=True)
class SET:
    """Sparse evolutionary training: the smallest weights go, as many others begin at random.

    Reference:
        Mocanu et al. 2018, "Scalable Training of Artificial Neural Networks with Adaptive Sparse
        Connectivity Inspired by Network Science".
    """

    kind: Literal["set"] = "set"
    """Name of the remedy."""
    every: Natural
    """Env steps between two moves."""
    share: Share = 0.3
    """Share of a layer's kept weights that moves."""
    of: Networks = "all"
    """Networks whose masks change."""
    until: Share = 1.0
    """Share of the run after which masks stay."""


@dataclass(frozen=True, kw_only=True)
class RigL:
    """Rigged lottery: the smallest weights go, those with the largest gradient begin.

    Reference:
        Evci et al. 2020, "Rigging the Lottery: Making All Tickets Winners".
    """

    kind: Literal["rigl"] = "rigl"
    """Name of the remedy."""
    every: Natural
    """Env steps between two moves."""
    share: Share = 0.3
    """Share of a layer's kept weights that moves at first; it falls by a cosine."""
    of: Networks = "all"
    """Networks whose masks change."""
    until: Share = 0.75
    """Share of the run after which masks stay, and over which the share falls."""
    samples: Natural = 2_048
    """Latest samples that were learned from, over which the unmasked gradient is averaged."""


@dataclass(frozen=True, kw_only=True)
class Gradual:
    """Gradual magnitude pruning: dense at first, then ever fewer weights, by a cubic schedule.

    Reference:
        Zhu and Gupta 2017, "To Prune, or Not to Prune".
    """

    kind: Literal["gradual"] = "gradual"
    """Name of the remedy."""
    begin: Whole
    """Env steps up to which all weights are kept."""
    end: Natural
    """Env steps from which the final sparsity holds."""
    every: Natural
    """Env steps between two steps of pruning."""
    sparsity: Share
    """Sparsity at the end, below 1."""
    distribution: Distribution = "erk"
    """How the sparsity is spread over the layers."""
    of: Networks = "all"
    """Networks that are pruned."""


@dataclass(frozen=True, kw_only=True)
class Revive:
    """One revival after static pruning: some removed weights come back, at random, and stay.

    Reference:
        Jin et al. 2026, "Topology-Aware Revival for Efficient Sparse Training", arXiv 2602.04166.
    """

    kind: Literal["revive"] = "revive"
    """Name of the remedy."""
    at: Natural
    """Env steps at which it happens, once."""
    share: Share
    """Weights that come back, as a share of all that the network keeps; sparser layers get more of
    them."""
    of: Networks = "all"
    """Networks that get weights back."""


TERMS = L2Init | WeightDecay | SpectralNorm
"""Remedies that an optimizer carries out, with every gradient step."""

MASKS = SET | RigL | Gradual | Revive
"""Remedies whose business is masks."""

Remedy = Reset | ShrinkPerturb | ReDo | TERMS | MASKS

KINDS: dict[str, type[Any]] = {kind.kind: kind for kind in get_args(Remedy)}
"""Remedies by the name that users type."""


def changes_masks(remedies: tuple[Remedy, ...]) -> bool:
    """Return True where one of the remedies moves or draws masks.

    Example:
        >>> changes_masks((Reset(every=10),)), changes_masks((Reset(every=10, mask="new"),))
        (False, True)
    """
    return any(isinstance(r, MASKS) or (isinstance(r, Reset) and r.mask == "new") for r in remedies)


def needs_whole_matrices(remedies: tuple[Remedy, ...]) -> bool:
    """Return True where one of the remedies cannot work on packed weights.

    Example:
        >>> needs_whole_matrices((Reset(every=10),)), needs_whole_matrices((SpectralNorm(),))
        (False, True)
    """
    return changes_masks(remedies) or any(isinstance(r, SpectralNorm) for r in remedies)


def samples_of(remedies: tuple[Remedy, ...]) -> int:
    """Return how many samples the remedies want to look at; 0 where none looks.

    Example:
        >>> samples_of((ReDo(every=5, samples=64), SET(every=5)))
        64
    """
    return max((getattr(remedy, "samples", 0) for remedy in remedies), default=0)
