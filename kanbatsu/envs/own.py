"""Environments that users wrote themselves: found, called, and kept from ending or moving us."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float, Num

from kanbatsu.envs.spec import Environment, TaskError, Timestep


class SimulatorExit(RuntimeError):
    """A simulator that asked to end the process, which trains others too."""


class Premises:
    """Surroundings of a task's own code: it runs in the folder that it went to, without a way out.

    Args:
        task: what messages call it.

    Example:
        >>> premises = Premises("plant:make")
        >>> with premises.entered():
        ...     os.chdir("/")
        >>> os.getcwd() == "/"
        False
    """

    def __init__(self, task: str) -> None:
        self.task = task
        self._folder: str | None = None

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Run the task's own code where it left off; put the working folder back afterwards.

        Raises:
            SimulatorExit: it called `sys.exit`.
        """
        home = os.getcwd()  # noqa: PTH109  (a Path would take ten times as long, at every step)
        if self._folder is not None:
            os.chdir(self._folder)
        try:
            yield
        except SystemExit as error:
            raise SimulatorExit(
                f"{self.task} called sys.exit({error.code!r}){where(error)}"
            ) from error
        finally:
            now = os.getcwd()  # noqa: PTH109
            if now != home:
                self._folder = now
                os.chdir(home)


class OwnEnvironment:
    """An environment on its premises.

    Args:
        environment: the environment; this object owns it from now on.
        premises: where its code runs.
    """

    def __init__(self, environment: Environment, premises: Premises) -> None:
        self._environment, self._premises = environment, premises
        self.spec, self.action_repeat = environment.spec, environment.action_repeat

    def reset(self, seed: int) -> Num[np.ndarray, "*obs"]:
        """Start the episode that belongs to `seed` and return its first observation."""
        with self._premises.entered():
            return self._environment.reset(seed)

    def step(self, action: Float[np.ndarray, " action_dim"]) -> Timestep:
        """Act once."""
        with self._premises.entered():
            return self._environment.step(action)

    def close(self) -> None:
        """Let go of the simulator."""
        with self._premises.entered():
            self._environment.close()


def call_factory(task: str, premises: Premises) -> Environment | gymnasium.Env:
    """Import `package.module` of a task and call its factory.

    Raises:
        TaskError: there is no such module or factory, its code fails, or it returns something else.
    """
    made = call(task, premises)
    if not isinstance(made, Environment | gymnasium.Env):
        raise TaskError(
            f"{task} returned {type(made).__name__}. The factory must return a Gymnasium "
            "environment (gymnasium.Env) or an object with spec, action_repeat, reset(seed), "
            "step(action) and close() (kanbatsu.envs.spec.Environment)."
        )
    return made


def call(task: str, premises: Premises) -> Any:
    """Import `package.module` of `package.module:factory` and return what the factory returns.

    Raises:
        TaskError: there is no such module or factory, or its code fails.
    """
    module_name, _, name = task.partition(":")
    # A console script does not look into the current folder, where the user's own file lies. It
    # goes last, so that it hides nothing that is installed.
    here = Path.cwd()
    if str(here) not in sys.path:
        sys.path.append(str(here))
    try:
        with premises.entered():
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise TaskError(
            f"{task} cannot be loaded: {error}. Run kanbatsu from the folder that holds "
            f"{module_name.partition('.')[0]}, or install the package that it comes from."
            f"{_hidden(module_name, here)}"
        ) from error
    except Exception as error:
        raise TaskError(f"{task} fails when it is imported: {described(error)}") from error
    factory = getattr(module, name, None)
    if not callable(factory):
        close = difflib.get_close_matches(name, dir(module), n=3)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise TaskError(
            f"{module_name} ({_file(module)}) has no factory {name!r}.{hint}"
            f"{_hidden(module_name, here)}"
        )
    if hidden := _hidden(module_name, here):
        warnings.warn(
            f"{task} is taken from {_file(module)}.{hidden}", RuntimeWarning, stacklevel=2
        )
    try:
        with premises.entered():
            return factory()
    except TaskError:
        raise
    except Exception as error:
        raise TaskError(f"{task} fails when it is called: {described(error)}") from error


def described(error: BaseException) -> str:
    """Say what an error of somebody else's code is, and where it arose."""
    if isinstance(error, SimulatorExit):  # it says where by itself
        return str(error)
    return f"{type(error).__name__}: {error}{where(error)}"


def where(error: BaseException) -> str:
    """Say the place at which an error arose, in brackets."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def _hidden(module_name: str, here: Path) -> str:
    """Say that a file of the current folder is hidden by another module of its name, if it is."""
    top = module_name.partition(".")[0]
    own = [path for path in (here / f"{top}.py", here / top / "__init__.py") if path.exists()]
    taken: Any = sys.modules.get(top)
    if not own or taken is None or _file(taken) in map(str, (*own, *(p.resolve() for p in own))):
        return ""
    kind = "a module of Python's standard library" if top in sys.stdlib_module_names else "another"
    return (
        f" {own[0]} was not taken: {kind} hides it, {_file(taken)}. Give your own module another "
        "name."
    )


def _file(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or "built in"
