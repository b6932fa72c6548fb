"""What was removed from which network, and what that means for the controller in service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kanbatsu.report.language import Texts

ACTS = "actor"
"""Network that decides in service, where there is one beside others; else the only one does."""

Networks = Mapping[str, Mapping[str, Any]]
"""Networks of an arm as `summary.json` has them, by name."""


def pruned(arm: str, networks: Networks, t: Texts) -> str | None:
    """Say what was removed from an arm's networks before training; None where nothing was.

    Example:
        >>> from kanbatsu.report.language import texts
        >>> pruned("thin", {"actor": {"sparsity": 0.0}, "critic": {"sparsity": 0.8}}, texts("en"))
        'In thin, 80 % of the connections of the network that rates actions in training (critic) \
were removed at random beforehand.'
    """
    removed = [
        t("pruned.of", percent=f"{100 * share:.3g}", network=_role(name, networks, t))
        for name, network in networks.items()
        if (share := _removed(network))
    ]
    return t("pruned.removed", arm=arm, networks=t.listed(removed)) if removed else None


def in_service(arm: Networks, control: Networks, t: Texts) -> str | None:
    """Say how large the network that acts is beside the control's; None where it is not counted.

    Example:
        >>> from kanbatsu.report.language import texts
        >>> in_service({"critic": {"kept": 10}}, {"critic": {"kept": 40}}, texts("en"))
        'The controller in service keeps 25 % of the connections.'
    """
    name = ACTS if ACTS in control else next(iter(control), "")
    kept, of = (side.get(name, {}).get("kept") for side in (arm, control))
    if not kept or not of:
        return None
    if kept == of:
        trained = {network: control.get(network, {}).get("kept") for network in arm}
        others = any(arm[network].get("kept") != trained[network] for network in arm)
        return t("pruned.training_only" if others else "pruned.as_before")
    share = f"{100 * kept / of:.3g}"
    return t("pruned.service_less" if kept < of else "pruned.service_more", share=share)


def _removed(network: Mapping[str, Any]) -> float:
    """Return the share of a network's weights that was removed: counted, else as configured."""
    kept, total = network.get("kept"), network.get("total")
    if kept is not None and total:
        return 1 - kept / total
    return network.get("sparsity") or 0.0


def _role(name: str, networks: Networks, t: Texts) -> str:
    if name != ACTS and ACTS not in networks:
        return t("pruned.role.only")
    return t(f"pruned.role.{name}") if t.has(f"pruned.role.{name}") else name
