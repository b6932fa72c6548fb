"""Whatever a policy does, what reaches the actuators is within limits, in time, and counted."""

import time
from pathlib import Path

import numpy as np
import pytest

import kanbatsu.rollout
from kanbatsu.rollout.events import TRIGGERS
from kanbatsu.rollout.guard import Guard
from kanbatsu.rollout.policy.ask import Inline, Threaded
from kanbatsu.rollout.policy.remote import Remote, RemoteAsked

OBS = np.array([2.0, 0.0])


def constant(*action):
    return Inline(lambda obs: np.array(action))


def incumbent(obs):
    return np.array([0.25])


def fired(guard):
    return {name: count for name, count in guard.counts.items() if count}


@pytest.mark.parametrize(
    ("observation", "trigger"),
    [
        (np.zeros(3), "observation_shape"),
        ([[1.0], [2.0, 3.0]], "observation_shape"),
        (np.array(["a", "b"]), "observation_shape"),
        (None, "observation_shape"),
        (np.array([np.nan, 0.0]), "observation_not_finite"),
        (np.array([0.0, np.inf]), "observation_not_finite"),
        (np.array([0.0, 1e300]), "observation_not_finite"),  # infinite in the policy's float32
    ],
)
def test_no_policy_sees_a_bad_observation(limits, observation, trigger):
    events, seen = [], []
    guard = Guard(limits(), lambda obs: seen.append(obs), events.append)
    taken = guard.act(Inline(seen.append), "candidate", observation)
    assert (taken.action.tolist(), taken.source, seen) == ([-0.5], "fallback", [])
    assert fired(guard) == {trigger: 1}
    assert not taken.faulty  # it is no fault of the policy
    assert [(e["kind"], e.get("trigger", e.get("guard"))) for e in events] == [
        ("guard", trigger),
        ("action", trigger),
    ]


def test_large_numbers_whose_squares_overflow_are_no_infinities(limits):
    guard = Guard(limits(), incumbent)
    guard.act(constant(0.1), "candidate", np.array([1e30, -1e30]))
    assert fired(guard) == {}


def test_an_old_observation_is_not_used(limits):
    guard = Guard(limits(max_age_s=0.05), incumbent)
    now = time.monotonic()
    assert guard.act(constant(0.1), "candidate", OBS, now).source == "candidate"
    assert guard.act(constant(0.1), "candidate", OBS, now - 1.0).action.tolist() == [0.1]  # held
    assert guard.act(constant(0.1), "candidate", OBS, now - 1.0).action.tolist() == [-0.5]
    assert fired(guard) == {"observation_stale": 2}


@pytest.mark.parametrize(
    ("answer", "trigger"),
    [
        (np.zeros(2), "action_shape"),
        (None, "action_shape"),
        ("left", "action_shape"),
        (np.array([np.nan]), "action_not_finite"),
        (np.array([-np.inf]), "action_not_finite"),
    ],
)
def test_what_is_no_action_is_replaced_along_the_chain(limits, answer, trigger):
    guard = Guard(limits(hold=2), incumbent)
    guard.act(constant(0.5), "candidate", OBS)
    bad = Inline(lambda obs: answer)
    taken = [guard.act(bad, "candidate", OBS) for _ in range(4)]
    assert [(t.action.item(), t.source) for t in taken] == [
        (0.5, "fallback"),
        (0.5, "fallback"),
        (0.25, "incumbent"),
        (0.25, "incumbent"),
    ]
    assert all(t.faulty for t in taken)
    assert fired(guard) == {trigger: 4}


def test_an_incumbent_that_fails_too_leaves_the_safe_action(limits):
    guard = Guard(limits(hold=0), lambda obs: 1 / 0)
    taken = guard.act(constant(np.nan), "candidate", OBS)
    assert (taken.action.tolist(), taken.source) == ([-0.5], "fallback")
    assert fired(guard) == {"action_not_finite": 1, "incumbent_failed": 1}
    assert "ZeroDivisionError" in taken.findings[1].detail


def test_an_incumbent_that_fails_is_not_asked_twice(limits):
    calls = []

    def failing(obs):
        calls.append(obs)
        raise OSError("no answer from the controller")

    guard = Guard(limits(hold=0), failing)
    assert guard.act(Inline(failing), "incumbent", OBS).action.tolist() == [-0.5]
    assert len(calls) == 1
    assert calls[0] is OBS  # an incumbent sees what it always saw
    assert fired(guard) == {"raised": 1}


def test_box_and_slew_clip_or_replace(limits):
    guard = Guard(limits(slew=(0.2,)), incumbent)
    taken = [guard.act(constant(x), "candidate", OBS) for x in (3.0, 0.5, -3.0)]
    np.testing.assert_allclose([t.action.item() for t in taken], [1.0, 0.8, 0.6])
    assert [[f.trigger for f in t.findings] for t in taken] == [
        ["action_box"],
        ["action_slew"],
        ["action_box", "action_slew"],
    ]
    guard = Guard(limits(slew=(0.2,), on_limit="replace", hold=0), incumbent)
    assert guard.act(constant(3.0), "candidate", OBS).action.tolist() == [0.25]
    guard.begin_episode()  # there is no last action to move from
    assert guard.act(constant(-1.0), "candidate", OBS).source == "candidate"


def test_even_what_stands_in_keeps_to_the_slew_rate_and_that_is_counted(limits):
    guard = Guard(limits(slew=(0.1,), hold=0), lambda obs: None)
    guard.act(constant(1.0), "candidate", OBS)
    assert guard.act(constant(np.nan), "candidate", OBS).action.tolist() == [0.9]
    assert fired(guard) == {"action_not_finite": 1, "incumbent_failed": 1, "action_slew": 1}


def test_a_bound_that_float32_meets_by_rounding_is_no_violation(limits):
    guard = Guard(limits(low=(0.0,), high=(0.1,), safe_action=(0.0,)), incumbent)
    taken = guard.act(Inline(lambda obs: np.array([0.1], np.float32)), "candidate", OBS)
    assert taken.action.item() == 0.1  # np.float32(0.1) is larger
    assert taken.findings == ()


def test_the_caller_may_write_into_what_it_was_given(limits):
    guard = Guard(limits(hold=1), incumbent)
    guard.act(constant(0.5), "candidate", OBS).action[:] = 9.0
    assert guard.act(constant(np.nan), "candidate", OBS).action.tolist() == [0.5]


def test_a_late_answer_of_an_inline_policy_is_counted_and_taken(limits):
    guard = Guard(limits(deadline_s=0.001), incumbent)
    slow = Inline(lambda obs: time.sleep(0.005) or np.array([0.5]))
    assert guard.act(slow, "candidate", OBS).action.tolist() == [0.5]
    assert fired(guard) == {"deadline": 1}


def test_a_thread_that_is_late_does_not_hold_the_loop_up(limits):
    guard = Guard(limits(deadline_s=0.02, hold=0), incumbent)
    seconds = [0.8]
    asked = Threaded(lambda obs: time.sleep(seconds[0]) or np.array([0.5]))
    began = time.perf_counter()
    taken = [guard.act(asked, "candidate", OBS) for _ in range(3)]  # the last two find it busy
    assert time.perf_counter() - began < 0.6
    assert [t.source for t in taken] == ["incumbent"] * 3
    assert fired(guard) == {"deadline": 3}
    seconds[0] = 0.0
    time.sleep(0.9)
    assert guard.act(asked, "candidate", OBS).source == "candidate"  # its old answer is not taken
    asked.close()


def test_a_thread_that_hangs_for_ever_is_left_behind(limits):
    guard, hanging = Guard(limits(hold=0), incumbent), [True]
    asked = Threaded(lambda obs: time.sleep(1.0 if hanging[0] else 0.0) or np.array([0.5]))
    assert guard.act(asked, "candidate", OBS).source == "incumbent"
    hanging[0] = False
    asked.renew()
    assert guard.act(asked, "candidate", OBS).source == "candidate"
    asked.close()


@pytest.mark.parametrize(
    ("name", "triggers"),
    [
        ("spinning", {"deadline"}),
        ("holding_the_lock", {"deadline"}),
        ("crashing", {"raised"}),
        ("raising", {"raised"}),
        ("wrong_shape", {"action_shape"}),
        ("nan", {"action_not_finite"}),
        ("unloadable", {"raised"}),
    ],
)
def test_no_process_holds_the_loop_up_or_takes_it_along(candidate, limits, name, triggers):
    remote = Remote(candidate(name, restarts=0))
    remote.wait_until_ready()
    asked, guard = RemoteAsked(remote), Guard(limits(deadline_s=0.05, hold=0), incumbent)
    began = time.perf_counter()
    taken = [guard.act(asked, "candidate", OBS) for _ in range(3)]
    assert time.perf_counter() - began < 2.0
    asked.close()
    assert [t.action.tolist() for t in taken] == [[0.25]] * 3
    assert set(fired(guard)) == triggers


def test_a_process_answers_and_is_started_again_between_episodes(candidate, limits):
    remote = Remote(candidate("good"))
    remote.wait_until_ready()
    asked, guard = RemoteAsked(remote), Guard(limits(deadline_s=0.5), incumbent)
    taken = guard.act(asked, "candidate", OBS)
    np.testing.assert_allclose(taken.action, [0.2])
    assert 0 < taken.latency_us < 5e5
    remote._process.kill()
    remote._process.wait()
    assert guard.act(asked, "candidate", OBS).source == "fallback"
    asked.renew()
    assert guard.act(asked, "candidate", OBS).source == "candidate"
    asked.close()


def test_every_trigger_that_is_named_can_fire():
    room = Path(kanbatsu.rollout.__file__).parent
    source = "".join(
        (room / name).read_text() for name in ("limits.py", "policy/ask.py", "guard.py")
    )
    assert {name for name in TRIGGERS if source.count(f'"{name}"') == 0} == set()
