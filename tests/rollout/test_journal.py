"""The journal: whole, bounded, readable at any time, and never in the way of the control loop."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from kanbatsu.rollout.journal import RARE_PER_SECOND, Journal, JournalConfig, JournalError
from kanbatsu.rollout.reading import Reader, read
from kanbatsu.rollout.segments import Stream, segments
from kanbatsu.rollout.sinks import BATCH, Background


def action(number: int, at: float = 0.0) -> dict:
    return {"kind": "action", "time": at, "number": number, "latency_us": 12.5, "guard": None}


def write(folder: Path, *events: dict, config: JournalConfig | None = None) -> Journal:
    with Journal(folder, config) as journal:
        for event in events:
            journal.append(event)
    return journal


def test_what_is_written_is_read_by_time_kind_and_span(tmp_path):
    episode = {"kind": "episode", "time": 1.5, "return": float("nan"), "steps": np.arange(2)}
    journal = write(tmp_path, action(1, 1.0), episode, action(2, 2.0))
    assert (journal.written, journal.lost) == (3, 0)
    events = list(read(tmp_path))
    assert [event["time"] for event in events] == [1.0, 1.5, 2.0]
    assert events[1] == {"kind": "episode", "time": 1.5, "return": None, "steps": [0, 1]}
    assert [e["number"] for e in read(tmp_path, kinds={"action"}, since=1.5)] == [2]
    assert [e["time"] for e in read(tmp_path, until=1.5)] == [1.0]


def test_segments_rotate_and_the_whole_is_bounded(tmp_path):
    config = JournalConfig(segment_bytes=1000, events_bytes=2000, actions_bytes=4000)
    stage = {"kind": "stage", "time": 0.0, "to": "shadow"}
    write(tmp_path, stage, *map(action, range(500)), config=config)
    kept = [event["number"] for event in read(tmp_path, kinds={"action"})]
    assert kept == list(range(kept[0], 500))
    assert 2000 < sum(path.stat().st_size for _, path in segments(tmp_path, "actions")) <= 4000
    assert list(read(tmp_path, kinds={"stage"})) == [stage]


def test_a_flood_of_a_rare_kind_does_not_push_out_the_stages(tmp_path):
    config = JournalConfig(segment_bytes=2000, events_bytes=4000, actions_bytes=4000)
    stage = {"kind": "stage", "time": 0.0, "to": "shadow"}
    guards = [{"kind": "guard", "time": 5.0, "trigger": "deadline", "n": n} for n in range(400)]
    write(tmp_path, stage, *guards, config=config)
    kept = list(read(tmp_path))
    assert kept[0] == stage
    first = [event["n"] for event in kept[1 : 1 + RARE_PER_SECOND]]
    assert first == list(range(RARE_PER_SECOND))
    assert kept[-1]["n"] == 399


def test_half_a_line_is_ignored_and_said_and_cut_off_by_the_next_writer(tmp_path):
    write(tmp_path, action(1))
    [(_, path)] = segments(tmp_path, "actions")
    with path.open("ab") as file:
        file.write(b'{"kind": "action", "ti')
    reader = Reader(tmp_path)
    assert [event["number"] for event in reader.new()] == [1]
    assert reader.notes == [f"{path.name}: half a line at its end (22 bytes) is ignored"]
    write(tmp_path, action(2))
    assert [event["number"] for event in reader.new() if event["kind"] == "action"] == [2]
    assert reader.notes == []
    [note] = read(tmp_path, kinds={"journal"})
    assert note["cut"] == 22


def test_damaged_lines_are_passed_over_and_said(tmp_path):
    write(tmp_path, action(1))
    [(_, path)] = segments(tmp_path, "actions")
    path.write_bytes(b'{"kind": 3, "time": 0}\n\xff\n[]\n' + path.read_bytes())
    reader = Reader(tmp_path)
    assert [event["number"] for event in reader.new()] == [1]
    assert reader.notes == [f"{path.name}: 3 damaged lines were passed over"]


def test_a_reader_follows_and_says_what_it_missed(tmp_path):
    config = JournalConfig(segment_bytes=200, events_bytes=400, actions_bytes=400)
    reader = Reader(tmp_path)
    assert list(reader.new()) == []
    write(tmp_path, action(1), config=config)
    assert [event["number"] for event in reader.new()] == [1]
    write(tmp_path, *map(action, range(2, 20)), config=config)
    assert [event["number"] for event in reader.new()][-1] == 19
    assert "were rotated away before" in reader.notes[0]


def test_one_process_writes(tmp_path):
    with Journal(tmp_path), pytest.raises(JournalError, match="another process writes"):
        Journal(tmp_path)
    write(tmp_path, action(1)).close()
    with pytest.raises(JournalError, match="is closed"):
        write(tmp_path, action(2)).append(action(3))


def test_bounds_that_hold_no_two_segments_are_refused():
    with pytest.raises(JournalError, match="events_bytes = 100 holds fewer than two segments"):
        JournalConfig(segment_bytes=80, events_bytes=100)


def test_a_disk_that_hangs_holds_nobody_up_and_drops_are_said(tmp_path, monkeypatch):
    go_on, original = threading.Event(), Stream.write
    monkeypatch.setattr(
        Stream, "write", lambda stream, lines: go_on.wait() and original(stream, lines)
    )
    with Journal(tmp_path) as journal:
        with Background(journal, size=50) as sink:
            start = time.perf_counter()
            for number in range(1000):
                sink(action(number))
            assert time.perf_counter() - start < 1.0
            assert sink.dropped >= 1000 - 50 - BATCH
            go_on.set()
        assert journal.lost == 0
    written = sum(1 for _ in read(tmp_path, kinds={"action"}))
    said = sum(note["dropped"] for note in read(tmp_path, kinds={"journal"}))
    assert written + sink.dropped == 1000
    assert said == sink.dropped == sink.lost


def test_a_disk_that_refuses_loses_events_and_counts_them(tmp_path, monkeypatch):
    original, refusals = os.write, iter([True])

    def refuse(descriptor, content):
        if next(refusals, False):
            original(descriptor, content[:10])
            raise OSError(28, "No space left on device")
        return original(descriptor, content)

    monkeypatch.setattr(os, "write", refuse)
    with Journal(tmp_path) as journal:
        journal.append(action(1))
        journal.append(action(2))
        journal.append({"kind": "action", "time": 0.0, "what": object()})
    assert (journal.lost, journal.written) == (2, 1)
    reader = Reader(tmp_path)
    assert [event["number"] for event in reader.new()] == [2]
    assert reader.notes == []


def test_listeners_hear_everything_and_stop_nothing(tmp_path):
    heard = []

    def listen(event):
        heard.append(event["number"])
        raise RuntimeError("a listener's own fault")

    with Journal(tmp_path, listeners=[listen]) as journal:
        for number in range(5):
            journal.append(action(number))
    assert heard == list(range(5))
    assert (journal.written, journal.listener_failures) == (5, 5)


def test_a_kilohertz_loop_is_not_held_up(tmp_path):
    took = np.zeros(1000)
    with Journal(tmp_path) as journal, Background(journal) as sink:
        for number in range(1000):
            start = time.perf_counter()
            sink(action(number, time.time()))
            took[number] = time.perf_counter() - start
            time.sleep(0.001)
    assert (journal.written, sink.lost) == (1000, 0)
    assert (
        np.quantile(took, 0.9) < 5e-4
    )  # half of the control period, on a machine that may be busy


def test_a_kill_leaves_whole_lines_that_go_on(tmp_path):
    program = f"""
import time
from pathlib import Path
from kanbatsu.rollout.journal import Journal
from kanbatsu.rollout.sinks import Background
sink = Background(Journal(Path({str(tmp_path)!r})))
number = 0
while True:
    sink({{"kind": "action", "time": time.time(), "number": number}})
    number += 1
    time.sleep(0.0001)
"""
    child = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 20
    while sum(1 for _ in read(tmp_path)) < 200 and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = [event["number"] for event in read(tmp_path)]
    assert len(before) >= 200
    assert before == list(range(len(before)))
    write(tmp_path, action(-1, time.time()))
    after = [event["number"] for event in read(tmp_path, kinds={"action"})]
    assert after == [*before, -1]
    for _, path in segments(tmp_path, "actions"):
        assert all(json.loads(line) for line in path.read_bytes().splitlines())
