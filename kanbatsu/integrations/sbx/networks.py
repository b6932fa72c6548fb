"""The networks of an SBX model, by the names that SBX gives them, and what each keeps."""

from __future__ import annotations

from typing import Any

from kanbatsu.sparsity.count import count as count_tree
from kanbatsu.sparsity.table import Count

ACTORS = ("actor",)
CRITICS = ("qf", "qf1", "qf2", "vf")
"""What SBX calls its networks; each has a train state, `policy.qf_state` for one."""
MASKS = "pruning_masks"
"""Attribute of a pruned policy that holds its masks, by network; they are saved with it."""
PLACES = "pruning_places"
"""Attribute of a policy that stores kept values, and no masks: where they belong, by network."""
COMPUTE = "pruning_compute"
"""Attribute of a pruned policy that says how its layers multiply."""


def count(model: Any) -> Count:
    """Count kept and total weights of every kernel of an SBX model, pruned or not.

    Returns:
        The table that `kanbatsu.count` returns; paths start with the name of the network.

    Raises:
        ValueError: for a model that is no SBX model.
    """
    trees = {name: state.params for name, state in states_of(model).items()}
    return count_tree(trees, getattr(model.policy, MASKS, {}))


def states_of(model: Any) -> dict[str, Any]:
    """The train states of a model's networks, by SBX's name of the network."""
    policy = getattr(model, "policy", None)
    states = {
        name: getattr(policy, f"{name}_state")
        for name in ACTORS + CRITICS
        if hasattr(policy, f"{name}_state")
    }
    if not states:
        raise ValueError(
            f"{type(model).__name__} is no SBX model: it has no policy with train states. Models "
            "of Stable-Baselines3 go to kanbatsu.integrations.sb3.prune_policy"
        )
    return states
