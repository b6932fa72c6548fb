"""From the name of a policy to a function of an observation."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kanbatsu.files.tables import did_you_mean
from kanbatsu.rollout.config import RolloutError

Function = Callable[[Any], Any]


def load_policy(name: str) -> Function:
    """Return the policy that a name stands for.

    Args:
        name: folder of an exported policy, or `package.module:factory`, where `factory()` returns a
            function of an observation. The module must be importable here.

    Raises:
        RolloutError: There is no such policy, or it cannot be loaded.

    Example:
        >>> load_policy("operator:itemgeter")
        Traceback (most recent call last):
        ...
        kanbatsu.rollout.config.RolloutError: operator has no factory 'itemgeter'. Did you mean \
'itemgetter' or 'attrgetter'?
    """
    if ":" not in name:
        return _exported(name)
    module_name, _, factory_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise RolloutError(
            f"{name} cannot be imported: {type(error).__name__}: {error}. Start from the folder "
            f"that holds {module_name.partition('.')[0]}, or install the package that it comes from"
        ) from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        known = [word for word in vars(module) if not word.startswith("_")]
        raise RolloutError(
            f"{module_name} has no factory {factory_name!r}. {did_you_mean(factory_name, known)}"
        )
    try:
        policy = factory()
    except Exception as error:
        raise RolloutError(
            f"{name} fails when it is called: {type(error).__name__}: {error}"
        ) from error
    if not callable(policy):
        raise RolloutError(
            f"{name} returned {type(policy).__name__}: the factory must return a function of an "
            "observation"
        )
    function: Function = policy
    return function


def _exported(name: str) -> Function:
    from kanbatsu.deploy import PolicyError, load

    if not Path(name).is_dir():
        raise RolloutError(
            f"there is no policy {name!r}: give the folder that kanbatsu.deploy.export wrote, or "
            "package.module:factory"
        )
    try:
        return load(name)
    except (OSError, PolicyError) as error:
        raise RolloutError(f"{name} holds no policy that can be loaded: {error}") from error
