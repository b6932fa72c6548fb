"""Off-policy evaluation: exact where the answer is known, honest intervals, and refusals."""

import itertools
import json

import numpy as np
import pytest

from kanbatsu.cli import main
from kanbatsu.rollout.evaluation.candidates import Choices, Density, read_candidate
from kanbatsu.rollout.evaluation.evaluate import evaluate
from kanbatsu.rollout.evaluation.fitted_q import Rows
from kanbatsu.rollout.evaluation.log import Log, LogError, read_log
from kanbatsu.rollout.evaluation.weighing import cumulative, weigh

DISCOUNT, HORIZON, STATES = 0.9, 3, 2
LOGGED = np.array([[0.5, 0.5], [0.25, 0.75]])
"""Probability of each action in each state, under the policy that logs."""
WANTED = np.array([[0.25, 0.75], [0.5, 0.5]])
"""The same of the candidate."""
NEXT = np.array([[[0.75, 0.25], [0.25, 0.75]], [[0.5, 0.5], [0.25, 0.75]]])
"""Probability of each state after each state and action; all are quarters."""
REWARD = np.array([[0.0, 1.0], [2.0, -1.0]])


def by_state(table):
    return Choices(lambda observations: table[observations[:, 0].astype(int)])


def solved(policy):
    """Return the value of a policy from state 0, and its values by step, backwards in time."""
    v = np.zeros((HORIZON + 1, STATES))
    q = np.zeros((HORIZON, STATES, 2))
    for t in reversed(range(HORIZON)):
        q[t] = REWARD + DISCOUNT * NEXT @ v[t + 1]
        v[t] = (policy * q[t]).sum(axis=1)
    return v[0, 0], q, v


@pytest.fixture(scope="module")
def population():
    """Return the log of every possible episode, each as often as it is probable."""
    episodes, copies = [], []
    for actions in itertools.product((0, 1), repeat=HORIZON):
        for after in itertools.product((0, 1), repeat=HORIZON - 1):
            states = (0, *after)
            chance = np.prod([LOGGED[s, a] for s, a in zip(states, actions, strict=True)])
            for t in range(HORIZON - 1):
                chance *= NEXT[states[t], actions[t], states[t + 1]]
            episodes.append(list(zip(states, actions, strict=True)))
            copies.append(chance * 4 ** (2 * HORIZON - 1))
    copies = np.array(copies)
    assert (copies == copies.round()).all()
    assert copies.sum() == 4 ** (2 * HORIZON - 1)
    flat = np.repeat(np.array(episodes), copies.astype(int), axis=0).reshape(-1, 2)
    s, a = flat.T
    lengths = np.full(len(flat) // HORIZON, HORIZON)
    return Log(s[:, None].astype(float), a, REWARD[s, a], LOGGED[s, a], lengths)


def tabular(observations, steps, actions):
    where = (steps * STATES + observations[:, 0].astype(int)) * 2 + np.asarray(actions)
    return np.eye(HORIZON * STATES * 2)[where]


def test_a_small_problem_is_solved_exactly_by_every_estimator(population):
    wanted, _, _ = solved(WANTED)
    answer = evaluate(population, by_state(WANTED), discount=DISCOUNT, draws=20, features=tabular)
    assert answer.refused == ""
    off = {e.name: abs(e.value - wanted) for e in answer.estimates}
    assert max(off[f"{kind}per-decision"] for kind in ("", "weighted ")) < 1e-9
    assert off["fitted Q"] < 1e-6
    # Each half's model is of the other half, which is not every episode.
    assert max(off[f"{kind}doubly robust"] for kind in ("", "weighted ")) < 1e-2
    assert answer.covered == pytest.approx(1.0, abs=1e-12)
    assert answer.logged.value == pytest.approx(solved(LOGGED)[0], abs=1e-12)


def test_over_every_episode_a_wrong_model_changes_nothing(population):
    """E[rho Q] is E[V] whatever Q is, where V is its mean over the candidate's actions."""
    model = np.random.default_rng(0).normal(size=(STATES, 2))
    s = population.observations[:, 0].astype(int)
    q, v = model[s, population.actions], (WANTED * model).sum(axis=1)[s]
    ratios = WANTED[s, population.actions] / population.probabilities
    one = np.ones((1, population.episodes))
    for weighted in (False, True):
        value = weigh(
            population, cumulative(population, ratios), one, DISCOUNT, weighted=weighted, q=q, v=v
        )
        assert value == pytest.approx(solved(WANTED)[0], abs=1e-9)


def sampled(rng, episodes):
    s = np.zeros(episodes, int)
    rows = []
    for _ in range(HORIZON):
        a = (rng.random(episodes) >= LOGGED[s, 0]).astype(int)
        rows.append((s, a))
        s = (rng.random(episodes) >= NEXT[s, a, 0]).astype(int)
    s, a = np.array(rows).transpose(1, 2, 0).reshape(2, -1)
    lengths = np.full(episodes, HORIZON)
    return Log(s[:, None].astype(float), a, REWARD[s, a], LOGGED[s, a], lengths)


def test_doubly_robust_has_no_variance_left_where_model_and_world_are_exact():
    """Of a problem without chance in its next states, each episode gives the value itself."""
    rng = np.random.default_rng(0)
    steps = np.tile(np.arange(HORIZON), 50)
    a = rng.integers(2, size=len(steps))
    reward = 1.0 * a + steps
    log = Log(steps[:, None].astype(float), a, reward, np.full(len(a), 0.5), np.full(50, HORIZON))
    chance = np.array([0.3, 0.7])
    mean = 0.7 + np.arange(HORIZON)
    v = np.array([sum(DISCOUNT ** (k - t) * mean[k] for k in range(t, HORIZON)) for t in (0, 1, 2)])
    later = np.append(v[1:], 0.0)[steps]
    q = reward + DISCOUNT * later
    products = cumulative(log, chance[a] / 0.5)
    ones = np.eye(50)  # each episode alone
    for weighted in (False, True):
        each = weigh(log, products, ones, DISCOUNT, weighted=weighted, q=q, v=v[steps])
        np.testing.assert_allclose(each, v[0], atol=1e-12)
    assert weigh(log, products, ones, DISCOUNT, weighted=False).std() > 1.0


def test_weights_are_exact_on_a_bandit_and_by_hand():
    log = Log(
        np.zeros((4, 1)),
        np.array([0, 0, 0, 1]),
        np.array([1.0, 1.0, 1.0, 5.0]),
        np.array([0.75, 0.75, 0.75, 0.25]),
        np.ones(4, int),
    )
    candidate = Choices(lambda observations: np.tile([0.4, 0.6], (len(observations), 1)))
    products = cumulative(
        log, candidate.probability(log.observations, log.actions) / log.probabilities
    )
    one = np.ones((1, 4))
    assert weigh(log, products, one, 1.0, weighted=False) == pytest.approx(0.4 * 1 + 0.6 * 5)
    # Two episodes by hand: ratios 2, 3 | 1/2; rewards 1, 10 | 4; discount 1/2.
    log = Log(
        np.zeros((3, 1)), np.zeros(3, int), np.array([1.0, 10.0, 4.0]), np.ones(3), np.array([2, 1])
    )
    products = cumulative(log, np.array([2.0, 3.0, 0.5]))
    np.testing.assert_allclose(products, [[2.0, 6.0], [0.5, 0.5]])
    one = np.ones((1, 2))
    assert weigh(log, products, one, 0.5, weighted=False) == pytest.approx((2 + 30 + 2) / 2)
    expected = (2 * 1 + 0.5 * 4) / 2.5 + 0.5 * (6 * 10) / 6.5
    assert weigh(log, products, one, 0.5, weighted=True) == pytest.approx(expected)


def test_fitted_values_end_with_the_episode(population):
    _, q, _ = solved(WANTED)
    rows = Rows.of(population, by_state(WANTED), tabular)
    weights = rows.sums(population, np.zeros(population.episodes, int)).of(np.ones(1)).fit(DISCOUNT)
    seen = np.abs(rows.taken).sum(axis=0) > 0
    np.testing.assert_allclose(weights[seen], q.reshape(-1)[seen], atol=1e-4)


def coverage(simulations, draws):
    """Return how often each interval holds the value; a check at three errors may refuse some."""
    wanted, _, _ = solved(WANTED)
    inside, evaluated = {}, 0
    for seed in range(simulations):
        log = sampled(np.random.default_rng(10_000 + seed), 200)
        answer = evaluate(
            log, by_state(WANTED), discount=DISCOUNT, draws=draws, seed=seed, features=tabular
        )
        evaluated += answer.refused == ""
        for e in answer.estimates:
            inside[e.name] = inside.get(e.name, 0) + (e.low <= wanted <= e.high)
    assert evaluated >= 0.97 * simulations
    return {name: count / evaluated for name, count in inside.items()}


def test_intervals_cover_about_as_often_as_they_say():
    shares = coverage(simulations=20, draws=40)
    assert min(shares.values()) >= 0.7, shares  # P(fewer than 14 of 20 | 0.95) is below 1e-4


@pytest.mark.slow
def test_intervals_cover_as_often_as_they_say():
    shares = coverage(simulations=400, draws=400)
    assert all(0.92 <= share <= 0.98 for share in shares.values()), shares


def test_a_default_basis_fits_choices_and_densities():
    rng = np.random.default_rng(0)
    n = 600
    x = rng.normal(size=(n, 1))
    a = rng.normal(size=(n, 1))

    def density(mean):
        return lambda o, u: np.exp(-0.5 * (u[:, 0] - mean) ** 2) / np.sqrt(2 * np.pi)

    log = Log(x, a, a[:, 0] + 0.1 * x[:, 0], density(0.0)(x, a), np.ones(n, int))
    shifted = Density(density(0.4), lambda o, rng: 0.4 + rng.normal(size=(len(o), 1)))
    answer = evaluate(log, shifted, draws=200)
    assert answer.refused == ""
    for e in answer.estimates:
        assert e.low < 0.4 < e.high
        assert e.high - e.low < 0.6
    with pytest.raises(
        LogError, match="are no whole numbers, and the candidate gives probabilities"
    ):
        evaluate(log, by_state(WANTED))


def test_what_the_log_cannot_tell_is_refused(population):
    rng = np.random.default_rng(1)
    log = sampled(rng, 500)

    def refused(log, table):
        answer = evaluate(log, by_state(np.array(table)), discount=DISCOUNT, draws=50)
        assert answer.estimates == ()
        return answer.refused

    certain = Log(
        log.observations, log.actions, log.rewards, np.ones(len(log.rewards)), log.lengths
    )
    assert "is deterministic" in refused(certain, WANTED)
    only = log.actions * 0
    half = Log(log.observations, only, log.rewards, 0.99 + 0.0 * log.rewards, log.lengths)
    assert "leaves the support of the log" in refused(half, [[0.5, 0.5], [0.5, 0.5]])
    wrong = Log(log.observations, log.actions, log.rewards, log.probabilities / 2, log.lengths)
    assert "logged probabilities are too small" in refused(wrong, WANTED)
    few = sampled(rng, 10)
    assert "holds 10 episodes" in refused(few, WANTED)
    long = Log(
        np.zeros((2_000, 1)),
        rng.integers(2, size=2_000),
        np.zeros(2_000),
        np.full(2_000, 0.5),
        np.full(50, 40),
    )
    assert "are left in effect, and at least 10%" in refused(long, [[0.1, 0.9]] * 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"probability": None}, "holds no probabilities of its actions"),
        ({"probability": 0.0}, "had a positive probability"),
        ({"probability": 1.5}, "is above 1"),
        ({"reward": float("nan")}, "rewards holds a number that is not finite, first in row 0"),
        ({"action": 7}, "the choices 7 to 7, and the candidate knows 0 to 1"),
    ],
)
def test_logs_that_cannot_be_used_are_refused(tmp_path, change, said):
    step = {"observation": [0.0], "action": 1, "reward": 1.0, "episode": 0, "probability": 0.5}
    step = {key: value for key, value in (step | change).items() if value is not None}
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(step) + "\n")
    with pytest.raises(LogError, match=said):
        evaluate(read_log(path), by_state(WANTED))


def test_the_command_gives_numbers_or_says_why_not(tmp_path, monkeypatch, capsys):
    (tmp_path / "shop_choices.py").write_text(
        "import numpy as np\n"
        "def even():\n    return lambda obs: np.full((len(obs), 2), 0.5)\n"
        "def odd():\n    return lambda obs: np.full((len(obs), 2), 0.7)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    log = sampled(np.random.default_rng(0), 100)
    path = tmp_path / "log.npz"
    arrays = {n: getattr(log, n) for n in ("observations", "actions", "rewards", "probabilities")}
    np.savez(path, episodes=np.repeat(np.arange(100), log.lengths), **arrays)
    assert read_log(path).lengths.tolist() == [HORIZON] * 100
    assert (
        main(
            ["rollout", "evaluate", str(path), "--candidate", "shop_choices:even", "--draws", "50"]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "100 episodes" in out
    assert "weighted doubly robust" in out
    with pytest.raises(SystemExit):
        main(["rollout", "evaluate", str(path), "--candidate", "shop_choices:odd"])
    assert "do not add up to 1" in capsys.readouterr().err
    np.savez(
        path,
        episodes=np.repeat(np.arange(100), log.lengths),
        **arrays | {"probabilities": np.ones(300)},
    )
    assert (
        main(
            ["rollout", "evaluate", str(path), "--candidate", "shop_choices:even", "--draws", "50"]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "not evaluable: the logging policy is deterministic" in out
    assert "doubly robust" not in out


def test_an_exported_policy_that_gives_one_action_is_refused(monkeypatch, tmp_path):
    class Exported:
        obs_dim, low, high = 2, np.array([0.0]), np.array([2.0])

        def __init__(self, kind):
            self._kind = kind

        def __call__(self, observations):
            return np.full(len(observations), 2, self._kind)

    where = "kanbatsu.rollout.evaluation.candidates.load_policy"
    monkeypatch.setattr(where, lambda name: Exported(np.int64))
    chosen = read_candidate(str(tmp_path)).probability(np.zeros((3, 2)), np.array([0, 2, 1]))
    assert chosen.tolist() == [0.0, 1.0, 0.0]
    monkeypatch.setattr(where, lambda name: Exported(np.float32))
    with pytest.raises(LogError, match=r"not evaluable: .* gives one action for each observation"):
        read_candidate(str(tmp_path))
