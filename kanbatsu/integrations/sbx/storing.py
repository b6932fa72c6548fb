"""How a pruned SBX policy holds its weights: as dense arrays with zeros, or as kept values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kanbatsu.integrations.sbx.networks import COMPUTE, MASKS, PLACES
from kanbatsu.sparsity.masks import apply_masks, keep_pruned


def store_dense(policy: Any, masks: Mapping[str, Any], compute: str) -> None:
    """Let a policy hold dense arrays with zeros: its masks are saved with it."""
    setattr(policy, MASKS, dict(masks))
    setattr(policy, COMPUTE, compute)
    install(policy)


def store_kept(policy: Any, masks: Mapping[str, Any], compute: str) -> None:
    """Let a policy hold kept values: their places are saved with it."""
    from kanbatsu.flax.kept import places_by_path

    setattr(policy, PLACES, {name: places_by_path(mask) for name, mask in masks.items()})
    setattr(policy, COMPUTE, compute)
    install(policy)


def is_stored(policy: Any) -> bool:
    """Return whether a policy is pruned."""
    return hasattr(policy, MASKS) or hasattr(policy, PLACES)


def install(policy: Any) -> None:
    """Put pruned weights, their products, optimizers that begin afresh and equal targets in."""
    kept = hasattr(policy, PLACES)
    place, names = (_kept, getattr(policy, PLACES)) if kept else (_dense, getattr(policy, MASKS))
    states = {name: place(policy, name) for name in names}
    for name, (apply, params, optimizer) in states.items():
        state = getattr(policy, f"{name}_state")
        targets = {"target_params": params} if hasattr(state, "target_params") else {}
        state = state.replace(
            apply_fn=apply,
            params=params,
            tx=optimizer,
            opt_state=optimizer.init(params),
            **targets,
        )
        setattr(policy, f"{name}_state", state)


def _dense(policy: Any, name: str) -> tuple[Any, Any, Any]:
    """How to apply a network, its weights with zeros, and an optimizer that keeps them zero."""
    from kanbatsu.flax import packed

    state, mask = getattr(policy, f"{name}_state"), getattr(policy, MASKS)[name]
    apply = state.apply_fn
    if name not in ("qf1", "qf2"):  # TQC applies one of them to the parameters of both
        apply = packed(getattr(policy, name), mask, compute=getattr(policy, COMPUTE))
    return apply, apply_masks(state.params, mask), keep_pruned(state.tx, mask)


def _kept(policy: Any, name: str) -> tuple[Any, Any, Any]:
    """How to apply a network to kept values, those values, and its own optimizer."""
    from kanbatsu.flax.kept import KeptApply, by_name, take_kept

    state, places = getattr(policy, f"{name}_state"), getattr(policy, PLACES)
    # TQC applies one of its critics to the parameters of both, which tell their places by name.
    alike = [name] if name not in ("qf1", "qf2") else ["qf1", "qf2"]
    known = by_name(each for network in alike for each in places.get(network, {}).values())
    module = policy.qf if name in ("qf1", "qf2") else getattr(policy, name)
    apply = KeptApply(module, known, getattr(policy, COMPUTE))
    return apply, take_kept(state.params, places[name]), state.tx


def dense_params(policy: Any, name: str) -> Any:
    """Return the parameters of one of a policy's networks with dense kernels, pruned or not."""
    params = getattr(policy, f"{name}_state").params
    places = getattr(policy, PLACES, {}).get(name)
    if places is None:
        return params
    from kanbatsu.flax.kept import by_name, make_dense

    return make_dense(params, by_name(places.values()))
