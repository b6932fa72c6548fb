"""Small policies: a trained actor as files that run without JAX, one observation at a time.

Importing this package and loading a policy needs numpy only; exporting one imports the rest.
"""

import importlib
from typing import TYPE_CHECKING, Any

from kanbatsu.deploy.contract import Contract
from kanbatsu.deploy.entry import PolicyError
from kanbatsu.deploy.policy import Policy, load

if TYPE_CHECKING:
    from kanbatsu.deploy.own import export, export_policy
    from kanbatsu.deploy.write import ParityError

__all__ = [
    "Contract",
    "ParityError",
    "Policy",
    "PolicyError",
    "export",
    "export_policy",
    "load",
]

if not TYPE_CHECKING:  # a checker that saw this function would accept any name

    def __getattr__(name: str) -> Any:
        homes = {"export": "own", "export_policy": "own", "ParityError": "write"}
        if name in homes:
            return getattr(importlib.import_module(f"kanbatsu.deploy.{homes[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
