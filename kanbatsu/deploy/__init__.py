"""Small policies: a trained actor as files that run without JAX, one observation at a time.

Importing this package and loading a policy needs numpy only; exporting one imports the rest.
"""

import importlib
from typing import TYPE_CHECKING, Any

from kanbatsu.deploy.entry import PolicyError
from kanbatsu.deploy.policy import Policy, load

if TYPE_CHECKING:
    from kanbatsu.deploy.write import export, export_policy

__all__ = ["Policy", "PolicyError", "export", "export_policy", "load"]

if not TYPE_CHECKING:  # a checker that saw this function would accept any name

    def __getattr__(name: str) -> Any:
        if name in ("export", "export_policy"):
            return getattr(importlib.import_module("kanbatsu.deploy.write"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
