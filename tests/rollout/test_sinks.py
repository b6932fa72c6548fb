"""What records events can neither stop nor slow a control loop."""

import threading
import time

from kanbatsu.rollout.sinks import BATCH, Background


def test_a_sink_that_raises_loses_its_event_and_is_remembered():
    kept = []

    def failing(record):
        if record["kind"] == "bad":
            raise OSError("No space left on device")
        kept.append(record)

    with Background(failing) as sink:
        for kind in ("bad", "good"):
            sink({"kind": kind})
    assert kept == [{"kind": "good"}]
    assert (sink.lost, sink.last_error) == (1, "OSError: No space left on device")


def test_a_sink_that_stands_still_costs_events_and_no_time():
    gate = threading.Event()
    sink = Background(lambda record: gate.wait(5.0) and None, size=10)
    began = time.perf_counter()
    for _ in range(100):
        sink({})
    assert time.perf_counter() - began < 0.5
    assert 90 - BATCH <= sink.lost <= 90  # a batch may already be in the sink's hands
    gate.set()
    sink.close()


def test_events_and_work_keep_their_order():
    kept = []
    with Background(kept.append) as sink:
        for number in range(40):
            sink({"number": number})
            sink.run(lambda number=number: kept.append(number))
    assert kept == [item for number in range(40) for item in ({"number": number}, number)]


def test_work_that_raises_is_counted_and_ends_nothing():
    kept = []
    with Background(kept.append) as sink:
        sink.run(lambda: 1 / 0)
        sink({"kind": "stage"})
    assert kept == [{"kind": "stage"}]
    assert (sink.lost, sink.last_error) == (1, "ZeroDivisionError: division by zero")
