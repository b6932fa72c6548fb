"""What all commands share: lines on the terminal, exit codes, and where this process computes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape

USAGE, FAILED, INTERRUPTED = 2, 1, 130
"""Exit codes: the user must change something; a run failed; Ctrl-C."""


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turn a mistake of the user's into one message and exit code 2; a bug stays a traceback."""
    from kanbatsu.envs.spec import TaskError
    from kanbatsu.files.disk import DamagedFile
    from kanbatsu.files.lock import StudyError
    from kanbatsu.files.tables import RecordError
    from kanbatsu.report.archive import ArchiveError

    try:
        yield
    except (ArchiveError, DamagedFile, RecordError, StudyError, TaskError) as error:
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


def plan_on_cpu() -> None:
    """Keep accelerators for the workers: this process only plans."""
    import jax

    jax.config.update("jax_platforms", "cpu")
