"""Standard output and error that no command dies of: any encoding, and readers that go away."""

from __future__ import annotations

import io
import os
import sys


class Lenient(io.TextIOWrapper):
    """A stream that shows what it cannot encode as escapes, and is silent once nobody reads it.

    A study goes on training where its output is piped into `head`, which leaves.
    """

    def write(self, text: str) -> int:
        """Write text, if anybody reads it."""
        try:
            return super().write(text)
        except BrokenPipeError:
            self._mute()
            return len(text)

    def flush(self) -> None:
        """Send what was written, if anybody reads it."""
        try:
            super().flush()
        except BrokenPipeError:
            self._mute()

    def _mute(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def make_lenient() -> None:
    """Put lenient streams in the place of this process's own; streams of others are left alone."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file that is opened would be taken for it
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper or stream is not getattr(sys, f"__{name}__"):
            continue
        encoding, by_line = stream.encoding, stream.line_buffering
        lenient = Lenient(stream.detach(), encoding, "backslashreplace", line_buffering=by_line)
        setattr(sys, name, lenient)
        setattr(sys, f"__{name}__", lenient)


def printable(text: str) -> str:
    r"""Return text that UTF-8 can hold: a path that is none is shown with escapes.

    Example:
        >>> print(printable("out-\udcff"))
        out-\xff
    """
    return os.fsencode(text).decode("utf-8", "backslashreplace")
