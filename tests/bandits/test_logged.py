"""Logged rows: an estimate that is exact on average, and every way in which a log can be wrong."""

import jax
import numpy as np
import pytest

from policygrad.bandits import LogError, off_policy_value, progressive, read_log, replay, squarecb

KEY = jax.random.key(0)


def good(count=4):
    return {
        "action": np.array(["a", "b", "a", "b"][:count]),
        "reward": np.array([0.0, 1.0, 1.0, 0.5][:count]),
        "propensity": np.array([0.5, 0.25, 0.75, 1.0][:count]),
        "probabilities": np.array([[0.5, 0.5], [0.75, 0.25], [0.75, 0.25], [0.0, 1.0]][:count]),
        "x": np.array([1.0, 2.0, 3.0, 4.0][:count]),
    }


def test_the_estimate_is_the_value_on_average_over_every_log():
    """Two rows, three actions: all nine logs with their probabilities, to 1e-12."""
    random = np.random.default_rng(0)
    mu, pi = random.dirichlet(np.ones(3), 2), random.dirichlet(np.ones(3), 2)
    reward = random.random((2, 3))
    expected = total = 0.0
    for actions in np.ndindex(3, 3):
        each = np.arange(2), np.array(actions)
        probability = mu[each].prod()
        expected += probability * off_policy_value(pi[each], reward[each], mu[each]).mean
        total += probability
    assert total == pytest.approx(1, abs=1e-12)
    assert expected == pytest.approx(np.mean((pi * reward).sum(1)), abs=1e-12)


def test_intervals_hold_what_a_learning_policy_would_have_earned():
    """400 logs of 300 rows, two contexts and three arms: 92 to 98 % of the intervals hold the mean of what an
    ε-greedy policy, which learns from the same rows as it goes, earns on average. One error of that share: 1.1 %."""
    rng, logs, rows, eps = np.random.default_rng(0), 400, 300, 0.2
    pays, mu = np.array([[0.2, 0.5, 0.8], [0.7, 0.4, 0.1]]), np.array([0.5, 0.3, 0.2])
    each, sums = np.arange(logs), np.zeros((logs, 2, 3))
    would, reward, propensity, earned = (np.empty((rows, logs)) for _ in range(4))
    for t in range(rows):
        x, a = rng.integers(0, 2, logs), rng.choice(3, logs, p=mu)
        policy = np.full((logs, 3), eps / 3)
        policy[each, sums[each, x].argmax(axis=1)] += 1 - eps
        reward[t], propensity[t] = rng.random(logs) < pays[x, a], mu[a]
        would[t], earned[t] = policy[each, a], (policy * pays[x]).sum(axis=1)
        sums[each, x, a] += reward[t] / mu[a]
    values = [off_policy_value(*(column[:, i] for column in (would, reward, propensity))) for i in range(logs)]
    held = [abs(v.mean - earned[:, i].mean()) <= 1.96 * v.error for i, v in enumerate(values)]
    assert not any(v.doubts() for v in values)
    assert 0.92 <= np.mean(held) <= 0.98, np.mean(held)


def test_a_policy_that_is_judged_on_its_own_log_has_its_mean():
    reward, propensity = np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.2, 0.9, 0.5, 0.4])
    value = off_policy_value(propensity, reward, propensity)
    assert value.mean == 0.5 and value.effective == pytest.approx(4)
    assert value.error == pytest.approx(np.std(reward, ddof=1) / 2)


def test_replay_judges_before_it_learns():
    """What the bandit would have done comes from the state before the row."""
    random = np.random.default_rng(1)
    x = np.c_[random.normal(size=(60, 2)), np.ones(60)].astype(np.float32)
    bandit = squarecb(3, 3)
    _, log = progressive(bandit, bandit.init(KEY), KEY, x, np.eye(3, dtype=np.float32)[random.integers(0, 3, 60)])
    state, would = replay(bandit, bandit.init(KEY), x, log.action, log.reward, log.propensity)
    assert int(state.rows) == 60 and would[0] == pytest.approx(1 / 3)
    before = bandit.init(KEY)
    before = bandit.learn(before, x[:40], log.action[:40], log.reward[:40], log.propensity[:40])
    expected = bandit.predict(before, x[40]).probabilities[int(log.action[40])]
    assert would[40] == pytest.approx(float(expected), abs=1e-4)


def test_a_good_log():
    log = read_log(good())
    assert log.classes == ("a", "b") and log.action.tolist() == [0, 1, 0, 1] and list(log.columns) == ["x"]
    losses = {("loss" if name == "reward" else name): column for name, column in good().items()}
    assert read_log(losses, losses=True).reward.tolist() == [0, 1, 1, 0.5]


def numbered(actions, width):
    """Choices by number, each with its own probability in its own place."""
    probabilities = np.random.default_rng(0).dirichlet(np.ones(width), len(actions))
    propensity = probabilities[np.arange(len(actions)), actions]
    plain = {"action": np.array(actions), "reward": np.ones(len(actions)), "propensity": propensity}
    return plain | {"probabilities": probabilities, "x": np.arange(len(actions))}


@pytest.mark.parametrize("kind", [int, float, str])
def test_actions_that_are_numbers_are_in_the_order_of_numbers(kind):
    table = numbered(list(range(12)), 12)
    table["action"] = table["action"].astype(kind)
    log = read_log(table)
    assert log.classes == tuple(map(str, range(12))) and log.action.tolist() == list(range(12))


def test_actions_that_never_appear_have_their_place():
    log = read_log(numbered([2, 11, 5, 2], 12))
    assert len(log.classes) == 12 and log.action.tolist() == [2, 11, 5, 2]
    del (table := numbered([2, 11, 5, 2], 12))["probabilities"]
    assert read_log(table).classes == ("2", "5", "11"), "nothing says that there are more"
    assert read_log(table, classes=tuple(map(str, range(12)))).action.tolist() == [2, 11, 5, 2]


def test_names_that_never_appear_must_be_told():
    table = {**good(), "probabilities": np.c_[good()["probabilities"], np.zeros(4)]}
    with pytest.raises(LogError, match="actions a, b in this order, and is 3 numbers: name all actions with --actions"):
        read_log(table)
    assert read_log(table, classes=("a", "b", "c")).classes == ("a", "b", "c")


BAD = [
    ({"propensity": None}, "no column 'propensity'; a log without it cannot be corrected for who chose"),
    ({"reward": None}, "no column 'reward'; it has action, propensity"),
    ({"propensity": [0.5, 0.0, 0.75, 1.0]}, "row 1 of the log: propensity is 0; it must be above 0"),
    ({"propensity": [0.5, 0.25, float("nan"), 1.0]}, "row 2 of the log: propensity is nan"),
    ({"propensity": [1.5, 0.25, 0.75, 1.0]}, "row 0 of the log: propensity is 1.5"),
    ({"propensity": ["x"] * 4}, "'propensity' must hold one number a row"),
    ({"reward": [0.0, 7.0, 1.0, 1.0]}, "row 1 of the log: reward is 7; it must be from 0 to 1: scale it"),
    ({"action": ["a"] * 4}, "every row of the log has the action 'a'"),
    (
        {"probabilities": [[0.5, 0.5], [0.7, 0.25], [0.75, 0.25], [0, 1]]},
        "row 1 .* sum of probabilities is 0.95; it must",
    ),
    (
        {"probabilities": [[0.4, 0.6], [0.75, 0.25], [0.75, 0.25], [0, 1]]},
        "row 0 .* propensity is 0.5; it is not the action's probability; they are taken in the order a, b",
    ),
    (
        {"probabilities": [[1.0]] * 4},
        "must be a list of 2 numbers, for the actions a, b in this order",
    ),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_a_log_that_is_wrong(change, words):
    columns = {**good(), **{name: np.asarray(column) for name, column in change.items() if column is not None}}
    columns = {name: column for name, column in columns.items() if change.get(name, 0) is not None}
    with pytest.raises(LogError, match=words):
        read_log(columns)


def test_losses_are_not_taken_for_rewards():
    losses = {("loss" if name == "reward" else name): column for name, column in good().items()}
    with pytest.raises(LogError, match="no column 'reward' but one of losses: add --losses"):
        read_log(losses)


def test_an_action_that_the_bandit_does_not_have():
    with pytest.raises(LogError, match="the action 'b'; the bandit's are a, c"):
        read_log(good(), classes=("a", "c"))


def test_a_log_that_never_tried_what_the_bandit_would_do_is_doubted():
    """Nine times in ten the bandit takes what the log has with probability zero: its weight is 0.1 of one."""
    value = off_policy_value(np.full(100, 0.099), np.zeros(100), np.full(100, 0.99))
    assert value.weight == pytest.approx(0.1) and value.effective == pytest.approx(100)
    assert len(value.doubts()) == 1 and "never tried" in value.doubts()[0]
    one = off_policy_value(np.array([0.9] + [1e-3] * 99), np.ones(100), np.array([0.01] + [0.99] * 99))
    assert len(one.doubts()) == 1 and "fewer than 30 effective rows" in one.doubts()[0]
    assert off_policy_value(np.full(100, 0.5), np.ones(100), np.full(100, 0.5)).doubts() == []
