"""Slurm: a study that this machine began, finished by a real Slurm of one node, and without one."""

import contextlib
import io
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from kanbatsu.engine.place import PlaceConfig
from kanbatsu.engine.progress import LineDisplay
from kanbatsu.engine.run_study import run_study
from kanbatsu.engine.slurm_place import UNLIMITED_MINUTES, SlurmPlace
from kanbatsu.files.lock import StudyError
from kanbatsu.files.store import StudyFolder
from kanbatsu.study.plan import Study

pytest.importorskip("submitit", reason="submitit is an extra: pip install 'kanbatsu[slurm]'")

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")

CONFIG = """
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
MaxArraySize=3
ReturnToService=2
NodeName={host} CPUs=2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
"""Arrays hold at most two jobs, and nobody keeps accounts of jobs that are over."""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start munge and Slurm, and let sbatch and squeue find them."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent or os.getuid() != 0:
        reason = f"no {', '.join(absent)}" if absent else "slurmd wants root"
        pytest.skip(f"no real Slurm here: {reason} (Debian: slurm-wlm, munge)")
    host, folder = socket.gethostname().partition(".")[0], tmp_path / "slurm"
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    told = {"folder": folder, "host": host, "controller": free_port(), "daemon": free_port()}
    (folder / "slurm.conf").write_text(CONFIG.format(**told))
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    munge = ["--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munge += [f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munge.seed"]
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        for command in (["munged", *munge], ["slurmctld", "-D", "-i"], ["slurmd", "-D"]):
            process = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            time.sleep(0.5)
        deadline = time.monotonic() + 60.0
        while "idle" not in ask("sinfo", "--noheader", "--format=%T"):
            assert time.monotonic() < deadline, (folder / "log").read_text(errors="replace")
            time.sleep(0.5)
        yield


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def carry_out(study: Study, out: Path, config: PlaceConfig) -> tuple[bool, str]:
    said = io.StringIO()
    display = LineDisplay(Console(file=said, width=200))
    return run_study(study, out, config, command="", display=display), said.getvalue()


def test_a_study_is_begun_here_and_finished_by_slurm(
    slurm: None, tasks: Path, make_tiny_study: Callable[..., Study]
) -> None:
    out, names = tasks / "out", ("tricky:good", "tricky:nan")
    assert run_study(make_tiny_study(names[:1]), out, PlaceConfig(workers=1), command="")
    grown = make_tiny_study(names, seeds=(0, 1))
    config = PlaceConfig(engine="slurm", slurm=("time=10", "partition=all"))
    complete, said = carry_out(grown, out, config)
    assert not complete
    assert "on Slurm, in arrays of at most 2 jobs, with 1 CPUs and 0 GPUs each." in said
    for run in grown.runs():
        files = StudyFolder(out).run_folder(run.run_id)
        assert files.finished == (run.task == "tricky:good")
        if run.task == "tricky:nan":
            assert "reward" in (files.read_status() or {})["error"]
        elif run.seed == 1:
            assert (files.machine() or {})["cores"] == 1
    # Three runs were missing: an array of two, and one more.
    # A task of an array gets a number of its own as it starts, so that numbers may have gaps.
    assert len({path.name.split("_")[0] for path in (out / "slurm").glob("[0-9]*")}) == 2


def test_a_job_that_was_cancelled_is_a_failure(
    slurm: None, tasks: Path, make_tiny_study: Callable[..., Study]
) -> None:
    out = tasks / "out"
    study = make_tiny_study(("tricky:hangs",))

    class Cancels(LineDisplay):
        def show(self, view: object) -> None:
            if ask("squeue", "--noheader", "--format=%T").strip() == "RUNNING":
                ask("scancel", "--name=kanbatsu")

    display = Cancels(Console(file=io.StringIO()))
    config = PlaceConfig(engine="slurm")
    assert run_study(study, out, config, command="", display=display) is False
    (run,) = study.runs()
    status = StudyFolder(out).run_folder(run.run_id).read_status() or {}
    assert status["error"].startswith("its job ended before the run did; see ")
    assert ask("squeue", "--noheader") == ""


def test_an_option_that_slurm_does_not_know_is_refused(
    slurm: None, tasks: Path, make_tiny_study: Callable[..., Study]
) -> None:
    config = PlaceConfig(engine="slurm", slurm=("partitoin=all",))
    with pytest.raises(StudyError, match="partitoin"):
        carry_out(make_tiny_study(("tricky:good",)), tasks / "out", config)


def test_without_slurm_the_jobs_run_on_this_machine(
    tasks: Path, make_tiny_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    study = make_tiny_study(("tricky:good",))
    complete, said = carry_out(study, tasks / "out", PlaceConfig(engine="slurm"))
    assert complete
    assert "by submitit on this machine, for there is no Slurm here" in said


def test_without_slurm_nothing_ends_a_long_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    config = PlaceConfig(engine="slurm", slurm=("time=600",))
    place = SlurmPlace(config, StudyFolder(tmp_path))
    assert place._executor._executor.parameters["timeout_min"] == UNLIMITED_MINUTES


def test_a_part_of_a_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"whole GPUs only: --gpus 0\.5"):
        SlurmPlace(PlaceConfig(engine="slurm", gpus=0.5), StudyFolder(tmp_path))
