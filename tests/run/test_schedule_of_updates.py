"""Priming and a replay ratio that changes: the same counts on the host and on the device."""

from dataclasses import replace

import pytest

from kanbatsu.files.store import RunFolder
from kanbatsu.run.carry import run_one
from kanbatsu.run.check import check


@pytest.mark.parametrize("kind", ["replay", "device"])
def test_updates_are_those_that_the_schedule_counts(kind, runs, tmp_path):
    run = runs[kind][0]
    train = replace(
        run.train,
        updates_per_interaction=1,
        first_updates=7,
        late_updates_per_interaction=2,
        late_from_interaction=80,
        evaluate_every=100,
        probe_every=1_000,
    )
    run_one(replace(run, env_steps=100, train=train), tmp_path)
    ends = {r["env_steps"]: r["updates"] for r in RunFolder(tmp_path).metrics() if "updates" in r}
    # Two simulators; turns that end at 60 to 78 make 2 updates, those at 80 to 100 make 4.
    assert ends[100] == 7 + 10 * 2 + 11 * 4


def test_a_moment_without_a_rate_is_refused(runs):
    run = runs["replay"][0]
    with pytest.raises(ValueError, match="late_updates_per_interaction holds"):
        check(replace(run, train=replace(run.train, late_from_interaction=5)))
