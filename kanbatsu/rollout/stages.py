"""The stages of a rollout on disk: one small file, replaced atomically, with every change in it."""

from __future__ import annotations

import contextlib
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kanbatsu.files.disk import digest, finite, read_json, sealed, write_json
from kanbatsu.files.lock import take
from kanbatsu.files.shape import NUMBER, Each, Maybe
from kanbatsu.files.tables import RecordError, from_dict
from kanbatsu.rollout.bundle import check_bundle
from kanbatsu.rollout.canary import Canary
from kanbatsu.rollout.config import RolloutError, RolloutSettings
from kanbatsu.rollout.events import STAGES
from kanbatsu.rollout.gate import Gate, shadow_gate
from kanbatsu.rollout.residual import refuse_alone
from kanbatsu.rollout.tally import Tally

FORMAT, VERSION = "kanbatsu-rollout", 1
NEXT = {"shadow": "canary", "canary": "full"}
"""Stage that a person may advance to."""
CHANGE = {
    "from": Maybe(str),
    "to": str,
    "time": NUMBER,
    "reason": str,
    "by": str,
    "numbers": Each(NUMBER),
}
SHAPE = {"format": str, "version": int, "candidate_sha256": str, "stage": str, "changes": [CHANGE]}
REMEDY = "restore it from a copy, or begin anew with `kanbatsu rollout init` in another folder"
WAIT_SECONDS = 10.0
"""Seconds to wait for another process that changes the stage at this moment."""
RULE = "kanbatsu"
"""Who changed a stage where a rule did."""


@dataclass(frozen=True)
class State:
    """Stage of a rollout, and how it came there."""

    stage: str
    """One of `kanbatsu.rollout.events.STAGES`."""
    changes: tuple[Mapping[str, Any], ...]
    """Every change: from, to, time, reason, by, and the gate's numbers at that moment."""


class Rollout:
    """The folder of a rollout: `rollout.toml`, `state.json`, `shadow.json`, `canary.jsonl`.

    Several processes may hold one: the service, and a person at the command line. A change is made
    under a lock, read anew, written whole and renamed into place, so a process that is killed at
    any moment leaves the state before or the state after, never anything else.

    Args:
        folder: the folder.

    Raises:
        RolloutError: The folder holds no rollout, or its settings are wrong.
        kanbatsu.files.disk.DamagedFile: The state is not what was written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "state.json"
        if not self.path.exists():
            raise RolloutError(f"{folder} holds no rollout: begin one with `kanbatsu rollout init`")
        self.settings = read_settings(folder / "rollout.toml")
        self.read()

    @classmethod
    def begin(cls, folder: Path, by: str, reason: str) -> Rollout:
        """Begin in shadow, from the settings in the folder.

        Raises:
            RolloutError: A rollout is there already, nobody is named, or the candidate's contract
                or golden pairs do not fit.
        """
        _named(by, reason)
        settings = read_settings(folder / "rollout.toml")
        refuse_alone(settings.candidate.policy, settings.candidate.residual)
        check_bundle(settings)
        with _locked(folder):
            if (folder / "state.json").exists():
                raise RolloutError(
                    f"{folder} holds a rollout already: look at it with `kanbatsu rollout status "
                    f"{folder}`, or begin another in another folder"
                )
            _write(folder / "state.json", candidate_digest(settings), [_change(None, by, reason)])
        return cls(folder)

    def read(self) -> State:
        """Return the state as it is on disk now."""
        record = self._record()
        return State(record["stage"], tuple(record["changes"]))

    def gate(self) -> Gate | None:
        """Hold what the stage has gathered against its rule; None where no gate is ahead."""
        stage = self.read().stage
        if stage == "shadow":
            tally = Tally.stored(self.folder / "shadow.json", self.settings.guard.action_dim)
            return shadow_gate(tally.numbers(), self.settings.shadow)
        return self.canary().gate() if stage == "canary" else None

    def canary(self) -> Canary:
        """Return the canary with every episode on file."""
        return Canary(self.folder / "canary.jsonl", self.settings.canary)

    def advance(self, by: str, reason: str) -> Mapping[str, Any]:
        """Go to the next stage, as a person has decided.

        Args:
            by: the person.
            reason: why, in their words.

        Returns:
            The change as it was written.

        Raises:
            RolloutError: The gate is not passed, no stage follows, the candidate is not the one
                that this rollout began with or does not fit it, or nobody is named.
        """
        _named(by, reason)
        state = self.read()
        if state.stage not in NEXT:
            where = "in full service" if state.stage == "full" else "rolled back"
            raise RolloutError(
                f"{self.folder} is {where}, and no stage follows: a new candidate, or another try, "
                "begins with `kanbatsu rollout init` in another folder"
            )
        self.check_candidate()
        check_bundle(self.settings)
        gate = self.gate()
        if gate is not None and not gate.passed:
            why = [*gate.missing, *filter(None, [gate.harm])]
            raise RolloutError(f"{self.folder} may not leave {state.stage} yet:\n" + "\n".join(why))
        numbers = {} if gate is None else gate.numbers
        return self._move(state.stage, NEXT[state.stage], by, reason, numbers)

    def roll_back(self, by: str, reason: str, gate: Gate | None = None) -> Mapping[str, Any]:
        """Give everything back to the incumbent; of a rollout that is rolled back, nothing changes.

        Args:
            by: the person, or RULE.
            reason: why.
            gate: what a rule decided by.

        Returns:
            The change as it was written, or the last one where there was nothing to change.
        """
        _named(by, reason)
        numbers = {} if gate is None else gate.numbers
        return self._move(None, "rolled_back", by, reason, numbers)

    def check_candidate(self) -> None:
        """Refuse another policy than this rollout began with.

        Raises:
            RolloutError: Its files have changed.
        """
        refuse_alone(self.settings.candidate.policy, self.settings.candidate.residual)
        if candidate_digest(self.settings) != self._record()["candidate_sha256"]:
            raise RolloutError(
                f"{self.settings.candidate.policy} is not the policy that this rollout began with: "
                "put that one back, or begin anew with `kanbatsu rollout init` in another folder"
            )

    def _move(
        self,
        expected: str | None,
        to: str,
        by: str,
        reason: str,
        numbers: Mapping[str, int | float],
    ) -> Mapping[str, Any]:
        with _locked(self.folder):
            record = self._record()
            stage, changes = record["stage"], record["changes"]
            if stage == to:
                last: Mapping[str, Any] = changes[-1]
                return last
            if expected is not None and stage != expected:
                raise RolloutError(f"{self.folder} went to {stage} meanwhile: look again")
            change = _change(stage, by, reason, to, numbers)
            _write(self.path, record["candidate_sha256"], [*changes, change])
        return change

    def _record(self) -> dict[str, Any]:
        record = read_json(self.path, SHAPE, REMEDY)
        if record["format"] != FORMAT or record["version"] != VERSION:
            raise RolloutError(f"{self.path} was written by another version of kanbatsu")
        if record["stage"] not in STAGES:
            raise RolloutError(f"{self.path} names no stage that there is: {record['stage']!r}")
        return record


def read_settings(path: Path) -> RolloutSettings:
    """Return what `rollout.toml` says.

    Raises:
        RolloutError: There is no such file, or something in it is wrong; one line per mistake.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        raise RolloutError(f"{path} does not exist: `kanbatsu rollout init` writes it") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RolloutError(f"{path} is not valid TOML: {error}") from error
    try:
        return from_dict(RolloutSettings, table)
    except (RecordError, RolloutError) as error:
        raise RolloutError(f"{path}: {error}") from error


def candidate_digest(settings: RolloutSettings) -> str:
    """Return the SHA-256 of an exported policy's description; empty of package.module:factory.

    The description holds the digest of the arrays.
    """
    path = Path(settings.candidate.policy) / "policy.json"
    return digest(path) if path.exists() else ""


def _write(path: Path, sha256: str, changes: list[Mapping[str, Any]]) -> None:
    record = {"format": FORMAT, "version": VERSION, "candidate_sha256": sha256}
    write_json(path, sealed({**record, "stage": changes[-1]["to"], "changes": changes}))


def _change(
    stage: str | None,
    by: str,
    reason: str,
    to: str = "shadow",
    numbers: Mapping[str, int | float] | None = None,
) -> dict[str, Any]:
    change = {"from": stage, "to": to, "time": time.time(), "reason": reason, "by": by}
    return {**change, "numbers": finite(numbers or {})}


def _named(by: str, reason: str) -> None:
    if not by.strip() or not reason.strip():
        raise RolloutError(
            "a change of stage needs a person and a reason: --by NAME --reason 'why'"
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from changing the stage at the same moment."""
    folder.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + WAIT_SECONDS
    with (folder / ".lock").open("a") as file:
        while not take(file):
            if time.monotonic() > until:
                raise RolloutError(
                    f"another process has been changing {folder} for {WAIT_SECONDS:g} s: see which "
                    "with `fuser` on its .lock"
                )
            time.sleep(0.01)
        yield
