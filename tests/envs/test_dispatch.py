"""Dispatching: schedules computed by hand, what is seen of them, and rules against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.envs import dispatch_rules as rules
from kanbatsu.envs.classic import CartPole
from kanbatsu.envs.dispatch import PER_PLACE, Dispatch, Shop
from kanbatsu.envs.functional import HostedEnvironment
from kanbatsu.envs.incumbent import load_incumbent
from kanbatsu.envs.make import make
from kanbatsu.envs.sight import gauges_of
from kanbatsu.envs.timed import add_time

KEY = jax.random.key(0)
SMALL = Dispatch(jobs=3, machines=1, places=2, families=2)


def shop_of(arrival: list[float], due: list[float], family: list[int], machines: int = 1) -> Shop:
    """A shop at time 0 whose jobs take 1 and weigh 2, and whose machines stand at family 0."""
    n = len(arrival)
    return Shop(
        jnp.array(arrival),
        jnp.ones(n),
        jnp.array(due),
        jnp.full(n, 2.0),
        jnp.array(family),
        jnp.zeros(n, bool),
        jnp.zeros(machines),
        jnp.zeros(machines, jnp.int32),
        *map(jnp.float32, (0.0, 0.0, 0.0)),
    )


def test_a_schedule_by_hand():
    # At 0 the second job is due first; it needs a set-up and ends at 1.5, 0.5 late at weight 2.
    state = shop_of([0.0, 0.0, 9.0], [5.0, 1.0, 9.5], [0, 1, 0])
    step = jax.jit(SMALL.step)
    state, one = step(state, jnp.array([1.0, 0.0]), KEY)
    assert (float(one.reward), float(state.now)) == (-1.0, 1.5)
    # The machine changes back, and ends at 3, in time. The last job arrives at 9: it is waited for.
    state, two = step(state, jnp.array([0.0, 1.0]), KEY)  # place 1 is empty: the last there is
    assert (float(two.reward), float(state.now), bool(two.terminated)) == (0.0, 9.0, False)
    # No set-up is needed, and it ends at 10, 0.5 late.
    state, three = step(state, jnp.array([1.0, 0.0]), KEY)
    assert (float(three.reward), bool(three.terminated)) == (-1.0, True)
    assert float(state.late) == 2.0


def test_the_machine_that_is_free_first_takes_the_job():
    shop = Dispatch(jobs=3, machines=2, places=2, families=2)
    state = shop_of([0.0, 0.0, 0.0], [9.0, 9.1, 9.2], [0, 0, 0], machines=2)
    times = []
    for _ in range(3):
        state, step = shop.step(state, jnp.array([1.0, 0.0]), KEY)
        times.append(float(state.now))
    assert times[:2] == [0.0, 1.0]
    assert state.free.tolist() == [2.0, 1.0]
    assert bool(step.terminated)


def test_fewer_jobs_than_places_are_refused():
    with pytest.raises(ValueError, match=r"seen at once \(6\): got 4"):
        Dispatch(jobs=4)


def test_what_is_seen_of_the_jobs():
    obs = SMALL._observe(shop_of([0.0, 0.0, 9.0], [5.0, 1.0, 9.5], [0, 1, 0]))
    jobs = obs[: 2 * PER_PLACE].reshape(2, PER_PLACE).tolist()
    assert jobs == [[1.0, 1.0, 0.0, 2.0, 1.0], [1.0, 1.0, 4.0, 2.0, 0.0]]
    assert obs[2 * PER_PLACE :].tolist() == [2.0, 0.0, 1.0, 1.0, 1.0]


def test_every_job_is_dispatched_once_and_time_goes_on():
    shop = Dispatch(jobs=20)
    state, obs = shop.reset(KEY)
    step, now = jax.jit(shop.step), -1.0
    for interaction in range(20):
        assert int(state.done.sum()) == interaction
        state, moment = step(state, jax.random.uniform(jax.random.key(interaction), (6,)), KEY)
        assert float(state.now) >= now
        assert np.isfinite(np.asarray(moment.obs)).all()
        now = float(state.now)
    assert bool(moment.terminated)
    assert obs.shape == moment.obs.shape == shop.spec.obs_shape


def test_rules_choose_by_hand():
    jobs = jnp.array(
        [
            [1.0, 1.0, 4.0, 1.0, 1.0],
            [1.0, 0.5, 5.0, 1.0, 1.0],
            [1.0, 1.0, 6.0, 1.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0],
        ]
    )
    obs = jobs.ravel()
    assert int(rules.choose(rules.by_due_date, obs, 4)) == 0
    assert int(rules.choose(rules.by_processing_time, obs, 4)) == 1
    # A set-up costs a factor of e^2, two units of slack one of e^2 at k1 = 1: the second job is
    # twice as short, but the third one saves the set-up.
    by_cost = rules.by_tardiness_cost(jobs, due=100.0, setup=0.5)
    assert int(jnp.argmax(by_cost[:3])) == 2
    ratio = float(by_cost[1] / by_cost[0])
    assert ratio == pytest.approx(2.0 * np.exp(-1.0 / (100.0 * 2.5 / 3.0)), rel=1e-5)


def test_the_tuned_rule_is_best_and_an_incumbent_is_the_rule():
    shop = Dispatch()
    paid = {
        name: float(rules.returns(priority, shop, 64).mean())
        for name, priority in (
            ("edd", rules.by_due_date),
            ("wspt", rules.by_processing_time),
            ("atcs", rules.by_tardiness_cost),
        )
    }
    assert paid["atcs"] > 0.5 * max(paid["edd"], paid["wspt"])  # both are negative
    environment = make("jax/dispatch", discrete=True)
    rule, obs, total = load_incumbent("kanbatsu.envs.dispatch_rules:atcs"), None, 0.0
    obs = environment.reset(seed=5)
    for _ in range(60):
        step = environment.step(np.eye(6, dtype=np.float32)[rule(obs)])
        obs, total = step.obs, total + step.reward
    assert step.terminated
    begins = jax.random.split(jax.random.key(5))[1]  # as HostedEnvironment draws an episode
    state, first = shop.reset(begins)
    other, go_on = 0.0, jax.jit(shop.step)
    choose = jax.jit(lambda obs: rules.choose(rules.by_tardiness_cost, obs, 6))
    for _ in range(60):
        place = choose(first)
        state, moment = go_on(state, jax.nn.one_hot(place, 6), KEY)
        first, other = moment.obs, other + float(moment.reward)
    assert total == pytest.approx(other, rel=1e-5)


def test_gauges_are_those_of_the_shop_with_and_without_the_time():
    hosted = HostedEnvironment(Dispatch())
    for environment in (hosted, add_time(hosted)):
        environment.reset(seed=0)
        read = gauges_of(environment)
        assert read is not None
        environment.step(np.eye(6, dtype=np.float32)[0])
        gauges = read()
        assert gauges.keys() == {"jobs", "busy for", "weighted tardiness"}
        # One machine works on the first job; the other waits, and takes the next one that comes.
        assert list(gauges["busy for"].values())[1] == 0.0
        assert gauges["jobs"]["waiting"] >= 1.0
    assert gauges_of(HostedEnvironment(CartPole())) is None
