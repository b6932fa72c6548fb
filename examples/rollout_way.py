"""The way from a run to full service, and what faults do there: for two scripts beside this one."""

import os
import shutil
import signal
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rollout_steps import Plant, Way, advance, begin, play, simulate, train, untrained, watch

from kanbatsu.deploy import export, load
from kanbatsu.rollout import Rollout, Service
from kanbatsu.rollout.watch.stored_watch import FILE, StoredWatch


class Caught(NamedTuple):
    """One fault, and what became of it."""

    fault: str
    injected: str
    by: str
    after: int
    """Actions from the fault to the moment at which it was found."""
    then: str


def candidate_process() -> int:
    """Return the id of the candidate's process: a child of this one."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(words[1]) == os.getpid() and "kanbatsu.rollout.policy.worker" in command:
            return int(stat.parent.name)
    raise RuntimeError("the candidate has no process")


def inject_nan(way: Way, folder: Path) -> Caught:
    """Let one sensor give NaN for five actions."""
    plant, counts, at_fault = Plant(way.task), [], 30

    def tamper(at: int, obs: np.ndarray) -> np.ndarray:
        if at_fault <= at < at_fault + 5:
            obs[way.sensor] = np.nan
        return obs

    (folder / FILE).unlink()  # the watch over drift would add an alarm of its own
    with Service(folder) as service:
        found = service.guard.counts
        play(service, plant, 0)
        play(service, plant, 1, tamper, lambda _: counts.append(found["observation_not_finite"]))
        stage = service.stage
    assert counts[at_fault - 1 : at_fault + 6] == [0, 1, 2, 3, 4, 5, 5]
    assert stage == "full"
    after = counts.index(1) - at_fault
    then = "last action, then safe action; candidate goes on"
    return Caught("NaN in a sensor", "actions 30 to 34", "observation_not_finite", after, then)


def inject_slow(way: Way, folder: Path) -> Caught:
    """Stop the candidate's process for three actions, in three episodes."""
    plant, counts, at_fault = Plant(way.task), [], 20

    def tamper(at: int, obs: np.ndarray) -> np.ndarray:
        if at in (at_fault, at_fault + 3):  # as a machine without a free core would
            number = signal.SIGSTOP if at == at_fault else signal.SIGCONT
            os.kill(candidate_process(), number)
        return obs

    (folder / FILE).unlink()
    with Service(folder) as service:
        found = service.guard.counts
        for episode in range(3):
            assert service.stage == "full"
            play(service, plant, episode, tamper, lambda _: counts.append(found["deadline"]))
        stage = service.stage
    assert stage == "rolled_back"
    after = counts.index(counts[at_fault - 1] + 1) - at_fault
    assert after == 0
    then = "last action, then incumbent; rolled back after 3 episodes"
    return Caught("slow inference", "actions 20 to 22, 3 times", "deadline", after, then)


def inject_shift(way: Way, folder: Path, stored: StoredWatch, most: int) -> Caught:
    """Let one sensor read three standard deviations too high, after episodes without a fault."""
    plant, sd = Plant(way.task), stored.windows.moments.sd[way.sensor]
    actions = 0

    def count(_: int) -> None:
        nonlocal actions
        actions += service.stage == "full"

    def tamper(_: int, obs: np.ndarray) -> np.ndarray:
        obs[way.sensor] += 3.0 * sd
        return obs

    with Service(folder) as service:
        for episode in range(5):
            play(service, plant, episode)
        assert service.stage == "full"
        for episode in range(most):
            play(service, plant, 5 + episode, tamper, count)
            if service.stage == "rolled_back":
                break
        assert service.stage == "rolled_back"
    (*_, last) = Rollout(folder).read().changes
    fault, then = f"a sensor reads {3 * sd:.2g} too high", "rolled back"
    return Caught(fault, "every action", last["reason"], actions, then)


def go(way: Way, out: Path, quick: bool) -> None:
    """Go the whole way, and print what happened."""
    for old in (out / "policy", out / "rollout", *out.glob("fault-*")):  # a finished run is kept
        shutil.rmtree(old, ignore_errors=True)
    if quick:
        untrained(way, out / "policy")
    else:
        export(train(way, out), out / "policy")
    folder = begin(way, out, quick)
    policy = load(out / "policy")
    judged = range(10_000, 10_004 if quick else 10_100)
    before, after = (simulate(way, each, judged)[0] for each in (None, policy))
    gain = after - before
    error = 1.96 * gain.std(ddof=1) / np.sqrt(gain.size)
    print(f"returns: incumbent {before.mean():.1f}, corrected {after.mean():.1f}")
    print(f"    difference {gain.mean():+.2f} +- {error:.2f} (95 %, {gain.size} same episodes)")
    advance(way, folder, "shadow", most=60)
    advance(way, folder, "canary", most=600)
    stored = watch(way, folder, policy, episodes=160 if quick else 400)
    caught = []
    for inject in (inject_nan, inject_slow, lambda way, copy: inject_shift(way, copy, stored, 60)):
        copy = out / f"fault-{len(caught)}"
        shutil.copytree(folder, copy)  # each fault on a rollout in full service of its own
        caught.append(inject(way, copy))
    print(f"\n{'fault':<28} {'injected':<25} {'caught by':<42} {'actions':>7}  then")
    for fault, injected, by, actions, then in caught:
        print(f"{fault:<28} {injected:<25} {by:<42} {actions:>7,}  {then}")
