"""What all commands share: lines on the terminal, exit codes, and where this process computes."""

from __future__ import annotations

import contextlib
import os
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

USAGE, FAILED, INTERRUPTED = 2, 1, 130
"""Exit codes: the user must change something; a run failed; Ctrl-C."""


SETTINGS = ("tasks", "task", "env_steps", "seeds", "agent", "control", "question", "note")
"""Keys of a study file that people give as options."""


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turn a mistake of the user's into one message and exit code 2; a bug stays a traceback."""
    from kanbatsu.envs.spec import TaskError
    from kanbatsu.files.disk import DamagedFile
    from kanbatsu.files.lock import StudyError
    from kanbatsu.files.tables import RecordError
    from kanbatsu.report.archive import ArchiveError
    from kanbatsu.rollout.config import RolloutError

    try:
        yield
    except (
        ArchiveError,
        DamagedFile,
        RecordError,
        RolloutError,
        StudyError,
        TaskError,
    ) as error:
        say_error(str(error))
    except OSError as error:
        named = error.filename is not None and error.strerror is not None
        say_error(f"{error.filename}: {error.strerror}" if named else str(error))
    else:
        return
    raise SystemExit(USAGE)


def say_error(message: str) -> None:
    """Print a message as the command's own, to where errors go."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"[bold red]kanbatsu:[/] {escape(message)}")


def say(line: str) -> None:
    """Print a line as it is."""
    Console(soft_wrap=True).print(escape(line), highlight=False)


def refuse_settings(words: Sequence[str], command: str) -> None:
    """Refuse settings of a study file that are given as options; say how they are given."""
    for at, word in enumerate(words):
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and (key := name.replace("-", "_")) in SETTINGS:
            value = value if equals else "".join(words[at + 1 : at + 2])
            say_error(f"{word} is a setting of the file: {command} FILE.toml {key}={value}")
            raise SystemExit(USAGE)


def is_plan(file: Path) -> bool:
    """Return whether a file is the plan of a proof of concept, as far as it can be read."""
    keys: set[str] = set()
    with contextlib.suppress(OSError, ValueError):  # whoever reads the study says it better
        keys = set(tomllib.loads(file.read_text("utf-8-sig")))
    return bool(keys & {"search", "confirm", "budget"})


def refuse_plan(file: Path) -> None:
    """Refuse the plan of a proof of concept where a study is wanted.

    Raises:
        RecordError: it is one; the message says what carries it out.
    """
    from kanbatsu.files.tables import RecordError

    if is_plan(file):
        command = shlex.join(["kanbatsu", "poc", "run", str(file)])
        raise RecordError(
            f"{file} is the plan of a proof of concept, not a study: {command} times it in a "
            "pilot, says what it would take, and carries it out"
        )


@contextlib.contextmanager
def own_code(allowed: bool) -> Iterator[None]:
    """Let tasks of this process and its workers import modules that a file names, or not."""
    from kanbatsu.envs.spec import NO_OWN_CODE

    before = os.environ.get(NO_OWN_CODE)
    if not allowed:
        os.environ[NO_OWN_CODE] = "1"
    try:
        yield
    finally:
        os.environ.pop(NO_OWN_CODE, None)
        if before is not None:
            os.environ[NO_OWN_CODE] = before


def plan_on_cpu() -> None:
    """Keep accelerators for the workers: this process only plans."""
    import jax

    jax.config.update("jax_platforms", "cpu")
