"""What a study survives: kills, two drivers, a full disk, a damaged checkpoint, a clock that jumps.

`benchmarks/faults.py` does the kills again and again, on Ray too.
"""

import ast
import contextlib
import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from kanbatsu.engine.place import PlaceConfig
from kanbatsu.engine.progress import LineDisplay
from kanbatsu.engine.run_study import run_study
from kanbatsu.files.lock import StudyError
from kanbatsu.files.store import RunFolder, StudyFolder
from kanbatsu.study.plan import Study

ONE = PlaceConfig(workers=1)
KANBATSU = Path(__file__).parents[2] / "kanbatsu"


def carry_out(study: Study, out: Path) -> tuple[bool, str]:
    said = io.StringIO()
    display = LineDisplay(Console(file=said, width=200))
    return run_study(study, out, ONE, command="", display=display), said.getvalue()


def only_run(study: Study, out: Path) -> RunFolder:
    (planned,) = study.runs()
    return StudyFolder(out).run_folder(planned.run_id)


def test_a_driver_is_killed_and_meets_a_second_one(
    tasks: Path, make_tiny_study: Callable[..., Study]
) -> None:
    study = make_tiny_study(("tricky:slow",), checkpoint_every=5)
    whole, out = tasks / "whole", tasks / "out"
    assert carry_out(study, whole)[0]
    script = f"""
        from pathlib import Path
        from conftest import tiny_study
        from kanbatsu.engine.run_study import run_study
        from kanbatsu.engine.place import PlaceConfig
        study = tiny_study(("tricky:slow",), checkpoint_every=5)
        run_study(study, Path({str(out)!r}), PlaceConfig(workers=1), "")
    """
    driver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    run, deadline = only_run(study, out), time.monotonic() + 120.0
    while not (run.checkpoint.is_dir() and any(run.checkpoint.glob("0*"))):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # One at a time; and after a kill nothing is left that keeps the next one out.
    with pytest.raises(StudyError, match="another kanbatsu"):
        carry_out(study, out)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert not run.finished
    assert carry_out(study, out)[0]
    theirs = only_run(study, whole).path / "metrics.jsonl"
    assert (run.path / "metrics.jsonl").read_bytes() == theirs.read_bytes()
    assert [path.name for path in (out / "runs").iterdir()] == [run.path.name]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 64 kB, where that is allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_fails_the_run_and_loses_nothing(
    small_disk: Path, tasks: Path, make_tiny_study: Callable[..., Study]
) -> None:
    study, out = make_tiny_study(("tricky:good",), checkpoint_every=20), small_disk / "out"
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError):
        ballast.write_bytes(bytes(40_000))
    complete, said = carry_out(study, out)
    assert not complete
    assert "FAILED" in said
    assert "No space left" in said or "os error 28" in said
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert carry_out(study, out)[0]
    assert only_run(study, out).finished


def test_a_damaged_checkpoint_is_passed_over(
    tasks: Path, make_tiny_study: Callable[..., Study]
) -> None:
    study = make_tiny_study(("tricky:fragile_at_30",), checkpoint_every=10)
    whole, out = tasks / "whole", tasks / "out"
    assert not carry_out(study, out)[0]
    newest = sorted(only_run(study, out).checkpoint.iterdir())[-1]
    file = newest / "agent.safetensors"
    *rest, last = file.read_bytes()
    file.write_bytes(bytes([*rest, last ^ 255]))
    (tasks / "repaired").touch()
    complete, said = carry_out(study, out)
    assert complete
    assert "is damaged" in said
    assert carry_out(study, whole)[0]
    ours, theirs = (only_run(study, place).path / "metrics.jsonl" for place in (out, whole))
    assert ours.read_bytes() == theirs.read_bytes()


def test_no_decision_rests_on_a_clock_that_can_jump() -> None:
    """Only monotonic clocks are asked, wherever runs are trained and looked after."""
    asked = []
    for path in (*(KANBATSU / "study").glob("*.py"), *(KANBATSU / "train").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                if name in ("time.time", "datetime.now", "datetime.utcnow", "time.time_ns"):
                    asked.append(f"{path.name}: {name}")
    assert asked == []
