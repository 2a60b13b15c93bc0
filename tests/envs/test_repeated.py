"""Repeated games against a fixed opponent: who is exploited, and by how much, exactly."""

import jax
import numpy as np
import pytest

import policygrad as pg
from policygrad.envs.repeated import BEATS, OPPONENTS, repeated_game, rock_paper_scissors
from policygrad.measure import policy_evaluation, value_iteration

DETERMINISTIC = ("rock", "cycle", "copycat", "win-stay")


@pytest.mark.parametrize("opponent", DETERMINISTIC)
def test_a_deterministic_opponent_loses_every_round(opponent):
    world = rock_paper_scissors(opponent, rounds=7)
    assert value_iteration(world, 1.0).value[0, 0] == 7


def test_a_biased_opponent_loses_its_bias_and_a_uniform_one_nothing():
    assert value_iteration(rock_paper_scissors("often-rock"), 1.0).value[0, 0] == pytest.approx(2.5, abs=1e-12)
    rng = np.random.default_rng(0)
    worth = policy_evaluation(rock_paper_scissors("uniform"), rng.dirichlet(np.ones(3), size=10), 1.0)
    np.testing.assert_allclose(worth, 0, atol=1e-6)


def test_the_state_is_the_last_joint_action():
    """Against the copycat, paper beats its opening rock, then what beats one's own last action: scissors, rock, ..."""
    best = value_iteration(rock_paper_scissors("copycat"), 1.0).policy
    assert best[0, 0].tolist() == [0, 1, 0]
    for a in range(3):
        assert best[1, 1 + 3 * a : 4 + 3 * a].argmax(axis=1).tolist() == [(a + 1) % 3] * 3


def test_rewards_are_those_of_the_game_in_which_they_were_won():
    """A rectangular game, by enumeration of two rounds against a policy that remembers nothing."""
    rng = np.random.default_rng(1)
    payoff, opponent = rng.normal(size=(2, 3)), rng.dirichlet(np.ones(3))
    world = repeated_game(payoff, opponent, rounds=2)
    assert world.n_states == 7 and world.n_actions == 2
    assert value_iteration(world, 1.0).value[0, 0] == pytest.approx(2 * (payoff @ opponent).max(), abs=1e-12)
    key, state = jax.random.key(0), world.reset(np.zeros(2))[0]
    state, obs, reward, _ = world.step(world.draw(key, ()), state, 1)
    assert float(reward) == pytest.approx(payoff[1, (int(obs) - 1) % 3], abs=1e-6) and (int(obs) - 1) // 3 == 1


def test_every_opponent_is_a_probability_table():
    for name in OPPONENTS:
        world = rock_paper_scissors(name)
        assert world.n_states == 10 and world.horizon == 10
    assert np.array_equal(BEATS, -BEATS.T)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rock_paper_scissors("copicat"), "Did you mean copycat"),
        (lambda: repeated_game(BEATS, np.ones(2) / 2), "opponent has shape"),
        (lambda: repeated_game(np.zeros(3), np.ones(3) / 3), "it must be"),
        (lambda: pg.make("RockPaperScissors-v0", opponent="nobody"), "There is no opponent 'nobody'"),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(ValueError, match=message):
        call()
