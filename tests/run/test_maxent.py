"""The preset ``maxent`` finds the soft optimum, and its temperature can be steered."""

import numpy as np
import pytest

import policygrad as pg
from policygrad.envs.tabular import fork
from policygrad.measure import policy_probabilities
from policygrad.measure.dynamic import soft_value_iteration
from policygrad.run.recipes import RecipeError, make_recipe

SMALL = dict(policy="tabular", n_envs=32, n_steps=8, gamma=1.0, eval_every=0, optimizer="adam", max_grad_norm=None)


def probabilities(run, mdp):
    return np.asarray(policy_probabilities(mdp, run.policy.model, 1))[0]


@pytest.mark.slow  # the example's test holds the soft half of it
def test_maxent_learns_the_soft_optimum_and_the_bonus_does_not():
    """Seed 0, 1,000,000 steps: the wide way with the exact soft policy's probability, 0.855 ± 0.02; the one-step bonus
    with the same coefficient keeps to the narrow one."""
    mdp = fork(4, 0.9, time_limit=100)
    options = SMALL | dict(total_timesteps=1_000_000, learning_rate=0.02, lr_schedule="linear", gae_lambda=1.0)
    soft = pg.train(mdp, "maxent", alpha=0.1, out=None, **options)
    bonus = pg.train(mdp, "a2c-gae", ent_coef=0.1, out=None, **options)
    exact = soft_value_iteration(mdp, 1.0, 0.1).policy
    wide = slice(5, 9)
    found = probabilities(soft, mdp)
    assert found[0, 1] == pytest.approx(exact[0, 1], abs=0.02)
    np.testing.assert_allclose(found[wide], 0.5, atol=0.02)
    assert probabilities(bonus, mdp)[0, 1] < 0.5


@pytest.mark.parametrize("alpha", [pytest.param(0.02, marks=pytest.mark.slow), 0.6])
def test_the_temperature_finds_its_entropy(alpha):
    """Seed 0, 300,000 steps on the fork: 0.5 nats a step of at most 0.69, from two sides."""
    run = pg.train(
        fork(4, 0.9, time_limit=100), "maxent", alpha=alpha, target_entropy=0.5, alpha_rate=0.05, out=None,
        **SMALL | dict(total_timesteps=300_000, learning_rate=0.02),
    )  # fmt: skip
    assert float(run.history["train/entropy"].ravel()[-1]) == pytest.approx(0.5, abs=0.04)
    assert float(run.history["train/alpha"].ravel()[-1]) != pytest.approx(alpha, rel=0.5)


def test_what_cannot_be_steered_is_refused():
    with pytest.raises(RecipeError, match="set a first alpha"):
        make_recipe("a2c", "CartPole-v1", target_entropy=0.5)
    with pytest.raises(RecipeError, match="set workers=0"):
        make_recipe("a3c", "CartPole-v1", alpha=0.1, target_entropy=0.5)
    with pytest.raises(RecipeError, match="alpha_rate does nothing here"):
        make_recipe("maxent", "CartPole-v1", alpha_rate=0.1)
    with pytest.raises(RecipeError, match="between 0 and"):
        pg.train("CartPole-v1", "maxent", target_entropy=0.7, out=None)
