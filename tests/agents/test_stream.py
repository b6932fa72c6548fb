"""What every streaming agent must do, dense and sparse; and one update by hand."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.agents import AGENTS
from kanbatsu.agents.schedule import StreamTrainConfig
from kanbatsu.agents.stream_ac import StreamAC, StreamACConfig
from kanbatsu.agents.stream_q import Draws, StreamQConfig
from kanbatsu.agents.streaming import Outcome, StreamingAgent
from kanbatsu.nn.stream import StreamNetworkConfig
from kanbatsu.sparsity.weight import Masked, to_dense
from kanbatsu.train.checkpoint import from_arrays, to_arrays
from kanbatsu.types import Spec, Transition

STREAMING = {n: entry for n, entry in AGENTS.items() if entry.schedule is StreamTrainConfig}
SPEC = Spec((5,), action_dim=2, episode_length=100)
KEY = jax.random.key(0)


@functools.cache
def make(name, sparsity=0.5, **changes):
    # Half: nine tenths of five inputs would be all of them.
    small = StreamNetworkConfig(width=12, sparsity=sparsity, initial_sparsity=0.5)
    networks = {"critic": small} if name == "stream_q" else {"actor": small, "critic": small}
    return STREAMING[name].agent(SPEC, STREAMING[name].config(**networks | changes))


def outcome(index=0, terminated=False, truncated=False, reward=None):
    """A sample; where the episode ends, what to act on next is another observation."""
    rng = np.random.default_rng(index)
    next_obs = rng.normal(size=5).astype(np.float32)
    ended = terminated or truncated
    return Outcome(
        jnp.float32(rng.normal() if reward is None else reward),
        jnp.bool_(terminated),
        jnp.bool_(truncated),
        jnp.asarray(next_obs),
        jnp.asarray(-next_obs if ended else next_obs),
    )


def noise_of(agent, index=0):
    return jax.tree.map(lambda x: x[0], agent.noise(jax.random.key(index), 1))


@functools.cache
def begun(agent, seed=0):
    """An agent after its first interactions, and its compiled step."""
    step = jax.jit(agent.step)
    state, _ = jax.jit(agent.begin)(agent.init(jax.random.key(seed)), jnp.ones(5), noise_of(agent))
    for index in range(3):
        state, _ = step(state, outcome(index), noise_of(agent, index))
    return state, step


@functools.cache
def learner(agent):
    """Its compiled `learn`, from a state, a reward and a successor; nothing ends by default."""
    learn = jax.jit(agent.learn)

    def after(state, reward, successor, terminated=False, truncated=False):
        ends = jnp.bool_(terminated), jnp.bool_(truncated)
        return learn(state, jnp.float32(reward), *ends, successor)

    return after


def same(a, b):
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


@pytest.fixture(params=STREAMING)
def agent(request):
    return make(request.param)


def test_it_is_a_streaming_agent(agent):
    assert isinstance(agent, StreamingAgent)
    assert set(agent.passes) == set(agent.networks(begun(agent)[0]))


def test_structure_is_stable_and_nothing_compiles_twice(agent):
    state, step = begun(agent)
    after, action = step(state, outcome(7, terminated=True), noise_of(agent, 7))
    assert step._cache_size() == 1
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert action.shape == (2,)
    assert (jnp.abs(action) <= 1).all()
    assert all(x.shape == () and np.isfinite(x) for x in agent.metrics(after).values())
    for name, network in agent.networks(after).items():
        assert not same(network, agent.networks(state)[name])


def test_the_noise_decides_the_action_and_nothing_else(agent):
    state, step = begun(agent)
    results = [step(state, outcome(5), noise_of(agent, seed)) for seed in (0, 0, 1)]
    assert same(results[0], results[1])
    assert same(agent.networks(results[0][0]), agent.networks(results[2][0]))
    if isinstance(agent, StreamAC):
        assert not same(results[0][1], results[2][1])


def test_save_and_load_go_on_alike(agent):
    state, step = begun(agent)
    loaded = from_arrays(begun(agent, seed=1)[0], to_arrays(state))
    ours, theirs = (step(s, outcome(9), noise_of(agent, 9)) for s in (state, loaded))
    assert same(ours, theirs)


def test_a_trace_ends_with_its_episode(agent):
    state, step = begun(agent)
    traces = {k: v for k, v in vars(state).items() if k.endswith("_trace")}
    assert traces
    for name, trace in traces.items():
        assert any((x != 0).any() for x in jax.tree.leaves(trace))
        for kind in ("terminated", "truncated"):
            after, _ = step(state, outcome(4, **{kind: True}), noise_of(agent))
            assert all((x == 0).all() for x in jax.tree.leaves(getattr(after, name)))


@pytest.mark.parametrize("bootstrap", [False, True])
@pytest.mark.parametrize("name", STREAMING)
def test_beyond_a_time_limit_it_looks_only_if_told_to(name, bootstrap):
    agent = make(name, bootstrap_truncated=bootstrap)
    state, _ = begun(make(name))
    near, far = jnp.ones(5), jnp.arange(5.0)

    def moved(terminated, truncated, successor):
        return agent.networks(learner(agent)(state, 0.3, successor, terminated, truncated))

    assert same(moved(True, False, near), moved(True, False, far))
    assert not same(moved(False, False, near), moved(False, False, far))
    assert same(moved(False, True, near), moved(False, True, far)) is not bootstrap


@pytest.mark.parametrize("name", STREAMING)
def test_pruned_weights_never_move_and_initial_zeros_do(name):
    agent = make(name)
    state, step = begun(agent)
    start = agent.networks(agent.init(jax.random.key(0)))
    for index in range(30):
        state, _ = step(state, outcome(index, terminated=index % 10 == 9), noise_of(agent, index))

    def masked(tree):
        leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Masked))
        return [leaf for leaf in leaves if isinstance(leaf, Masked)]

    pairs = list(zip(masked(agent.networks(state)), masked(start), strict=True))
    assert pairs
    traces = [v for k, v in vars(state).items() if k.endswith("_trace")]
    for (now, then), trace in zip(pairs, masked(traces), strict=False):
        gone = ~np.asarray(then.mask)
        assert gone.any()
        assert (np.asarray(now.value)[gone] == 0).all()
        assert (np.asarray(trace.value)[gone] == 0).all()
    waiting = [np.asarray(then.mask & (then.value == 0)) for _, then in pairs]
    moved = [np.asarray(now.value)[w] != 0 for (now, _), w in zip(pairs, waiting, strict=True)]
    assert np.concatenate(moved).mean() > 0.5


def test_a_batch_is_refused_by_name(agent):
    state, _ = begun(agent)
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), outcome())
    with pytest.raises(ValueError, match=r"one sample at a time.*batch of shape"):
        agent.step(state, batch, noise_of(agent))


def test_probe_reports_every_network(agent):
    state, _ = begun(agent)
    rng = np.random.default_rng(0)
    n = 16
    batch = Transition(
        obs=rng.normal(size=(n, 5)).astype(np.float32),
        action=np.eye(2, dtype=np.float32)[rng.integers(2, size=n)],
        reward=rng.normal(size=n).astype(np.float32),
        terminated=np.arange(n) % 4 == 0,
        truncated=np.zeros(n, bool),
        next_obs=rng.normal(size=(n, 5)).astype(np.float32),
    )
    report = jax.jit(agent.probe)(state, batch, KEY)
    assert {name.split("/")[0] for name in report} == set(agent.networks(state))
    assert {"dormant_0.1", "srank", "weight_norm"} <= {name.split("/")[1] for name in report}
    assert all(np.isfinite(x) for x in report.values())


def reference_forward(network, x):
    """The network in float64, and the gradients of an output by finite differences elsewhere."""
    for layer in network.layers:
        x = x @ np.asarray(to_dense(layer.weight), np.float64) + np.asarray(layer.bias, np.float64)
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        x = np.where(x > 0, x, 0.01 * x)
    head = network.head
    if hasattr(head, "deviation"):
        mean, raw = (x @ to_dense(h.weight) + np.asarray(h.bias) for h in vars(head).values())
        return mean, np.log1p(np.exp(raw))
    return x @ np.asarray(to_dense(head.weight)) + np.asarray(head.bias)


def assert_moved(state, after, name, td_error, kappa, gradient):
    """Hold a network's step against the equations of ObGD, in float64."""
    trace = jax.tree.map(
        lambda e, g: 0.99 * 0.8 * np.asarray(e, np.float64) + np.asarray(g, np.float64),
        getattr(state, f"{name}_trace"),
        gradient,
    )
    norm = sum(np.abs(e).sum() for e in jax.tree.leaves(trace))
    step = 1.0 / max(kappa * max(abs(td_error), 1.0) * norm, 1.0)
    trees = (getattr(state, name), trace, getattr(after, name))
    numbers = [
        [x for x in jax.tree.leaves(tree) if np.issubdtype(x.dtype, np.floating)] for tree in trees
    ]
    for w, e, x in zip(*numbers, strict=True):
        np.testing.assert_allclose(x, w + step * td_error * e, rtol=2e-4, atol=2e-6)


def test_stream_ac_learns_by_its_equations():
    """One update against the equations in float64; gradients from JAX, everything else by hand."""
    agent = make("stream_ac")
    state, _ = begun(agent)
    successor, reward = jnp.linspace(-1.0, 1.0, 5), 0.7
    after = learner(agent)(state, reward, successor)
    value = reference_forward(state.critic, np.asarray(state.obs, np.float64))[0]
    next_value = reference_forward(state.critic, np.asarray(successor, np.float64))[0]
    td_error = reward + 0.99 * next_value - value

    def log_prob(actor):
        mean, deviation = actor(state.obs)
        return jax.scipy.stats.norm.logpdf(state.action, mean, deviation).sum()

    def entropy(actor):
        return 0.5 * jnp.log(2 * jnp.pi * jnp.e * actor(state.obs)[1] ** 2).sum()

    gradients = {
        "critic": eqx.filter_jit(eqx.filter_grad(lambda net: net(state.obs)[0]))(state.critic),
        "actor": jax.tree.map(
            lambda a, b: a + 0.01 * np.sign(td_error) * b,
            *eqx.filter_jit(
                lambda actor: (eqx.filter_grad(log_prob)(actor), eqx.filter_grad(entropy)(actor))
            )(state.actor),
        ),
    }
    for name, kappa in (("critic", 2.0), ("actor", 3.0)):
        assert_moved(state, after, name, td_error, kappa, gradients[name])


def test_stream_q_learns_by_its_equations():
    agent = make("stream_q")
    state, _ = begun(agent)
    successor, reward = jnp.linspace(-1.0, 1.0, 5), -0.4
    after = learner(agent)(state, reward, successor)
    value = reference_forward(state.critic, np.asarray(state.obs, np.float64))[int(state.action)]
    best = reference_forward(state.critic, np.asarray(successor, np.float64)).max()
    td_error = reward + 0.99 * best - value
    gradient = eqx.filter_jit(eqx.filter_grad(lambda net: net(state.obs)[state.action]))(
        state.critic
    )
    assert_moved(state, after, "critic", td_error, 2.0, gradient)


@pytest.mark.parametrize("greedy", [True, False])
def test_watkins_cuts_the_trace_after_an_action_that_was_not_greedy(greedy):
    agent = make("stream_q")
    state, _ = begun(agent)
    state = eqx.tree_at(lambda s: s.greedy, state, jnp.bool_(greedy))
    after = learner(agent)(state, 0.1, jnp.ones(5))
    assert not same(after.critic, state.critic)  # it learns from the action all the same
    assert any((x != 0).any() for x in jax.tree.leaves(after.critic_trace)) is greedy


def test_exploration_falls_in_a_line_and_random_actions_are_known_as_such():
    agent = make("stream_q")
    state, step = begun(agent)
    values = jax.jit(lambda s: s.critic(s.obs))

    def choose(interactions, explore, action):
        at = eqx.tree_at(lambda s: s.decisions, state, jnp.int32(interactions))
        draws = Draws(jnp.float32(explore), jnp.int32(action))
        after, chosen = step(at, outcome(3), draws)
        best = int(values(after).argmax())
        assert int(after.action) == int(chosen.argmax())
        assert bool(after.greedy) == (int(after.action) == best)
        return int(after.action), best

    # After `learn` the count is one higher: at 50,000 of 100,000 the share is 1 - 0.99 / 2 = 0.505.
    best = choose(49_999, 0.51, 0)[1]
    half, late = 49_999, 500_000
    for interactions, explore, random in (
        (half, 0.50, True),
        (half, 0.51, False),
        (late, 0.02, False),
        (late, 0.009, True),
    ):
        action, _ = choose(interactions, explore, 1 - best)
        assert action == (1 - best if random else best)


def test_a_mask_shortens_the_trace_and_the_control_takes_that_back():
    half = make("stream_ac")
    control = make("stream_ac", kappa_by_density=True)
    state, _ = begun(half)
    large = 5.0  # large enough a TD error to be bounded
    ours, theirs = (learner(agent)(state, large, jnp.ones(5)) for agent in (half, control))
    for name in ("actor", "critic"):
        full, less = (moved(getattr(after, name), getattr(state, name)) for after in (ours, theirs))
        np.testing.assert_allclose(less, 0.5 * full, rtol=1e-2)


def moved(now, before):
    """Sum of the absolute changes of all weights."""
    pairs = zip(
        *(jax.tree.leaves(eqx.filter(x, eqx.is_inexact_array)) for x in (now, before)), strict=True
    )
    return sum(float(jnp.abs(a - b).sum()) for a, b in pairs)


def test_without_the_bound_learning_diverges():
    def largest_value(agent):
        state, step = begun(agent)
        for index in range(60):
            state, _ = step(state, outcome(index % 5, reward=1.0), noise_of(agent, index))
        return float(jnp.abs(state.critic(state.obs)).max())

    assert largest_value(make("stream_q")) < 200.0
    unbound = largest_value(make("stream_q", critic_kappa=0.0))
    assert not unbound < 1e4  # NaN counts as diverged


def test_a_new_episode_is_seen_from_its_own_first_observation(agent):
    state, step = begun(agent)
    told = outcome(4, terminated=True)
    after, _ = step(state, told, noise_of(agent))
    look = jax.jit(lambda senses: senses.see(told.next_obs)[0].see(told.obs)[1])
    seen = look(state.senses)
    np.testing.assert_allclose(after.obs, seen, rtol=1e-5)
    assert int(after.senses.statistics.count) == int(state.senses.statistics.count) + 2


def test_greedy_actions_draw_nothing_and_agree_with_one_by_one(agent):
    state, _ = begun(agent)
    obs = jax.random.normal(KEY, (3, 5))
    act = jax.jit(agent.act_greedy)
    together = act(state, obs)
    assert together.shape == (3, 2)
    alone = jnp.stack([act(state, x[None])[0] for x in obs])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


CHANGES = {
    "bootstrap_truncated": True,
    "kappa_by_density": True,
    "time": False,
    "exploration_end": 0.2,
    "exploration_start": 0.5,
    **dict.fromkeys(("actor", "critic"), StreamNetworkConfig(width=8)),
}


SETTINGS = {
    "stream_ac": [f.name for f in dataclasses.fields(StreamACConfig)],
    "stream_q": ["critic_kappa", "exploration_start", "exploration_end", "exploration_decisions"],
}


@pytest.mark.parametrize("name", STREAMING)
def test_every_setting_changes_what_the_agent_does(name):
    def program(agent):
        masks = agent.masks(KEY) if agent.config.critic.sparsity else None
        state = jax.eval_shape(lambda key: agent.init(key, masks), KEY)
        return str(jax.make_jaxpr(agent.step)(state, outcome(), noise_of(agent)))

    usual = make(name, 0.0)
    before = program(usual)
    for setting in SETTINGS[name]:
        if setting == "kappa_by_density":  # of a dense network, there is nothing to divide by
            assert program(make(name)) != program(make(name, kappa_by_density=True))
            continue
        value = CHANGES.get(setting)
        value = 2 * getattr(usual.config, setting) if value is None else value
        assert program(make(name, 0.0, **{setting: value})) != before, setting


def test_configurations_have_the_published_defaults():
    ac, q = StreamACConfig(), StreamQConfig()
    assert (ac.learning_rate, ac.discount, ac.trace_decay) == (1.0, 0.99, 0.8)
    assert (ac.actor_kappa, ac.critic_kappa, q.critic_kappa) == (3.0, 2.0, 2.0)
    assert (ac.actor.width, ac.critic.blocks, q.critic.width) == (128, 2, 32)
    assert ac.actor.initial_sparsity == q.critic.initial_sparsity == 0.9
