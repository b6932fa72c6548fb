"""Locks: a file system without any is named with what to do, and other errors stay themselves."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from kanbatsu.files.lock import NO_LOCKS, StudyError, is_owned, lock, own


def refuse_with(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(file: Any, kind: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("number", sorted(NO_LOCKS))
def test_a_file_system_without_locks_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refuse_with(monkeypatch, number)
    for keep_out in (lock, own):
        message = rf"{tmp_path.name}.*cannot lock files.*{os.strerror(number)}.*--out"
        with pytest.raises(StudyError, match=message), keep_out(tmp_path / "out"):
            pass
    assert not is_owned(tmp_path / "out")


def test_another_error_of_the_disk_is_not_taken_for_missing_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_with(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)) as caught, lock(tmp_path):
        pass
    assert not isinstance(caught.value, StudyError)


def test_a_folder_is_kept_until_it_is_let_go(tmp_path: Path) -> None:
    with lock(tmp_path):
        with (
            pytest.raises(StudyError, match=f"another kanbatsu .process {os.getpid()} "),
            lock(tmp_path),
        ):
            pass
        assert is_owned(tmp_path)
    with lock(tmp_path):
        pass
    assert not is_owned(tmp_path)
