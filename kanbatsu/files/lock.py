"""Who works in a folder: one engine at a time in a study, one process in a run."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

LOCK = ".lock"
"""Name of the lock file in the folder of a study, and in that of each run."""

WAIT_SECONDS = 0.2
"""Seconds between two looks at whether a run is free."""


NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
"""Errors of file systems on which nothing can be locked."""


class StudyError(ValueError):
    """A study that cannot run in the folder given; the message says why and what to do."""


@contextlib.contextmanager
def lock(out: Path) -> Iterator[None]:
    """Keep a second engine out of a folder, until this one ends or dies.

    Raises:
        StudyError: Another engine works in the folder, or nothing can be locked there.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK).open("a+") as file:
        if not take(file):
            file.seek(0)
            raise StudyError(
                f"another kanbatsu ({file.read().strip() or 'just started'}) is working in {out}: "
                "wait until it has ended, or give another --out"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


@contextlib.contextmanager
def own(run: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keep every other process out of a run, on all machines that share the folder.

    Whoever works on the run already is waited for: a process that an engine left behind when it
    died, or a job that a scheduler still has. The system lets go of the lock of a process that is
    dead, so nothing here depends on a clock.

    Args:
        run: The run's folder; made where there is none.
        on_wait: Called again and again while another process has the run.

    Raises:
        StudyError: Nothing can be locked there.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / LOCK).open("a") as file:
        while not take(file):
            on_wait()
            time.sleep(WAIT_SECONDS)
        yield


def is_owned(run: Path) -> bool:
    """Return whether a process works on a run at this moment; never where nothing can be locked."""
    try:
        with (run / LOCK).open("r") as file:
            return not take(file, fcntl.LOCK_SH)
    except (FileNotFoundError, StudyError):
        return False


def take(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file until it is closed, unless somebody else has it; say whether it worked.

    Raises:
        StudyError: The file system has no locks.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise StudyError(
            f"{Path(file.name).parent} lies on a file system that cannot lock files (flock: "
            f"{error.strerror}), so two processes could write into one run: give an --out on "
            "another one, such as a local disk, or let it be mounted with locks (Lustre: -o flock; "
            "NFS: version 4; FUSE: with its own option for flock)"
        ) from error
    return True
