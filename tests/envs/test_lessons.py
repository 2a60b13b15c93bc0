"""The worlds that each teach one thing: what they claim, in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import policygrad as pg
from policygrad.envs.lessons import apprentice, climb, ledge, near_far, orchard
from policygrad.ladder import Psi
from policygrad.measure import gradient, ladder_moments, objective, policy_evaluation, value_iteration
from policygrad.models import make_model

pytestmark = pytest.mark.usefixtures("x64")


def uniform(world):
    return make_model(world.observation_space, world.action_space, key=jax.random.key(0), policy="tabular")


def logits_gradient(world, gamma=1.0):
    """∇J of the uniform policy's table."""
    return np.asarray(gradient(world, uniform(world), gamma).actor.head.last.rows)


def norm(tree):
    return float(jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(tree))))


def test_a_random_climb_reaches_the_top_once_in_two_to_the_n():
    world = climb(6, horizon=6)
    assert float(objective(world, uniform(world))) == pytest.approx(2**-6, abs=1e-15)
    assert value_iteration(climb(6), 0.9).value[0] == pytest.approx(0.9**5, abs=1e-12)


def test_resets_begin_on_every_good_place_and_change_nothing_else():
    plain, reset = climb(4), climb(4, good=0.5)
    assert reset.initial.tolist() == [0.625, 0.125, 0.125, 0.125, 0]
    assert np.array_equal(plain.transition, reset.transition) and np.array_equal(plain.reward_value, reset.reward_value)


def test_resets_turn_an_exponentially_small_gradient_into_a_polynomial_one():
    slopes = {good: [norm(logits_gradient(climb(n, good, horizon=2 * n))) for n in (5, 10)] for good in (0.0, 0.5)}
    assert slopes[0.0][1] < slopes[0.0][0] / 10
    assert slopes[0.5][1] > slopes[0.5][0] / 5


def test_the_far_reward_is_best_and_the_gradient_of_chance_points_to_it():
    world = near_far(horizon=6)
    walk = world.transition[0, 1] @ np.asarray(policy_evaluation(world, np.full((7, 2), 0.5), 1.0)[1])
    assert walk == pytest.approx(50 / 2**5, abs=1e-12) and walk > 1
    assert value_iteration(world, 1.0).value[0, 0] == 50
    assert logits_gradient(world)[0] @ [-1, 1] == pytest.approx(2 * 0.25 * (50 / 32 - 1), abs=1e-12)


def test_the_orchard_wants_to_know_the_time():
    """Aware: 9 + 8. Blind, felling with chance p: Σ_t (1 − p)^t·(1 − p + 8p), best for a p between 0 and 1."""
    world, chances = orchard(), np.linspace(0.001, 1, 1000)
    assert value_iteration(world, 1.0).value[0, 0] == 17
    blind = (1 - (1 - chances) ** 10) / chances * (1 - chances + 8 * chances)
    probs = np.stack([np.stack([1 - chances, chances], 1)] * 2, 1)
    exact = [float(policy_evaluation(world, p, 1.0)[0, 0]) for p in probs[::111]]
    np.testing.assert_allclose(exact, blind[::111], rtol=0, atol=1e-12)
    assert 0 < blind.argmax() < 999 and blind.max() == pytest.approx(11.07, abs=0.01)


def test_an_apprentice_who_believes_in_the_end_does_not_learn():
    gamma = 0.95
    endless = value_iteration(apprentice(), gamma)
    assert endless.value[0] == pytest.approx(2 * gamma**3 / (1 - gamma), abs=1e-9) and endless.policy[0, 1] == 1
    ending = value_iteration(apprentice(horizon=5), gamma)
    assert ending.value[0, 0] == pytest.approx(sum(gamma**t for t in range(5)), abs=1e-12)
    assert ending.policy[0, 0, 0] == 1
    assert apprentice(time_limit=5).horizon is None, "a cut, not an end"


@pytest.mark.parametrize("gamma", [0.5, 0.86, 0.88, 1.0])
def test_the_ledge_looks_better_below_its_threshold(gamma):
    found = value_iteration(ledge(5, fall=0.5, cost=4.0), gamma)
    path, ledge_worth = found.q[0]
    assert ledge_worth - path == pytest.approx(1 - gamma**5 * 2, abs=1e-12)
    assert found.policy[0, 1] == (gamma < 2 ** (-1 / 5))


def test_the_gradients_bias_on_the_ledge_in_closed_form():
    """‖bias‖/‖∇J‖ = p·C·(1 − γ^d)/|1 − p·C|, over every trajectory."""
    world = ledge(3, fall=0.25, cost=8.0, horizon=4)
    model, truth = uniform(world), gradient(world, uniform(world), 1.0)
    gammas = (0.0, 0.6, 1.0)
    found = ladder_moments(world, model, {str(g): Psi(gamma=g) for g in gammas}, reference=truth)
    for g in gammas:
        assert norm(found[str(g)].bias) / norm(truth) == pytest.approx(2 * (1 - g**3), abs=1e-12)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (climb, {"n": 0}, "at least 1 step"),
        (climb, {"good": 1.5}, "give a number from 0 to 1"),
        (near_far, {"length": 0}, "at least 1 step"),
        (apprentice, {"years": 0}, "at least 1"),
        (ledge, {"length": 0}, "at least 1 step"),
        (ledge, {"fall": 2.0}, "give a number from 0 to 1"),
    ],
)
def test_worlds_that_make_no_sense(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("name", ["climb", "near-far", "orchard", "apprentice", "ledge", "RockPaperScissors-v0"])
def test_they_have_names_and_episodes_that_stop(name):
    world = pg.make(name)
    assert world.time_limit or world.horizon
