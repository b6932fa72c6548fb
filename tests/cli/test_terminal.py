"""Terminals of every kind: other encodings, readers that leave, closed output, odd paths."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kanbatsu.cli.terminal import printable

SCRIPT = """
import sys
from kanbatsu.cli.terminal import make_lenient
make_lenient()
from rich.console import Console
console = Console()
for line in range({lines}):
    console.print("Größe → 大きさ \\udcff", line)
    print("→", file=sys.stderr)
open("went_on", "w").close()
"""


def shell(command, folder, lines=3, **settings):
    """Run the script in a shell command, which names it as $SCRIPT."""
    (folder / "script.py").write_text(SCRIPT.format(lines=lines), encoding="utf-8")
    environment = os.environ | {"SCRIPT": f"{sys.executable} script.py"} | settings
    return subprocess.run(command, shell=True, cwd=folder, capture_output=True, env=environment)


@pytest.mark.parametrize(
    "settings",
    [{"PYTHONIOENCODING": encoding} for encoding in ("ascii", "latin-1", "cp1252", "utf-8")]
    + [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)
def test_what_a_terminal_cannot_show_is_shown_as_escapes(settings, tmp_path):
    done = shell("$SCRIPT", tmp_path, **settings)
    assert (done.returncode, (tmp_path / "went_on").exists()) == (0, True), done.stderr
    assert done.stdout.count(b"\\udcff") == 3
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    ["$SCRIPT | head -c 1", "$SCRIPT 2>&1 | true", "$SCRIPT >&-", "$SCRIPT >&- 2>&- <&-"],
)
def test_work_goes_on_where_nobody_reads(command, tmp_path):
    done = shell(command, tmp_path, lines=3_000)
    assert (tmp_path / "went_on").exists(), done.stderr
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


def test_a_path_that_is_no_utf8_is_printable():
    assert printable(os.fsdecode(b"out-\xff")) == "out-\\xff"
    assert printable("大きさ") == "大きさ"
    printable(str(Path(os.fsdecode(b"\xfe")))).encode()


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["watch", "--help"]])
def test_help_may_be_cut_short(words, tmp_path):
    command = f"{sys.executable} -m kanbatsu.cli {' '.join(words)} | head -n 1"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True)
    assert done.stderr == b""
    assert done.stdout != b""
