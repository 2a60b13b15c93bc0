"""The microscope on Gymnasium's environments: objects, and limits of its own."""

import gymnasium
import pytest

import policygrad as pg
from policygrad.run.recipes import RecipeError

TINY = dict(net=(4,), eval_every=0, out=None, n_envs=2, total_timesteps=64)
LOOK = dict(rungs=["reinforce-togo"], trajectories=16, reference=16, batch=4)


def test_a_run_on_a_function_is_measured_where_it_was_trained():
    run = pg.train(lambda: gymnasium.make("CartPole-v1", max_episode_steps=7), "a2c", **TINY)
    report = pg.measure(run, **LOOK)
    assert 5 < report.measurement.length <= 7
    with pytest.raises(RecipeError, match="fixed in a run on an environment object"):
        pg.measure(run, max_episode_steps=3, **LOOK)


def test_the_limit_of_a_measurement_holds_on_the_host():
    run = pg.train("gym:CartPole-v1", "a2c", **TINY)
    assert pg.measure(run, max_episode_steps=4, **LOOK).measurement.length == 4
