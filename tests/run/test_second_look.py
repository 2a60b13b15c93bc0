"""Corners that a second look at runs found: waiting seeds, finite horizons, schedules, damaged files, bad calls."""

import numpy as np
import pytest

import policygrad as pg

TABLE = {"policy": "tabular", "tensorboard": False}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Seeds that need unequal numbers of updates, and wait for each other."""
    path = tmp_path_factory.mktemp("uneven") / "run"
    options = dict(total_timesteps=300, n_envs=2, seeds=2, log_every=10, eval_every=100, eval_episodes=2, **TABLE)
    return pg.train("random", "reinforce-togo", path=path, lr_schedule="linear", **options)


def test_whole_episodes_of_a_finite_horizon(uneven):
    lengths = uneven.history["rollout/ep_len_mean"]
    assert np.nanmax(lengths) <= 10 and uneven.env_steps.min() >= 300


def test_a_linear_schedule_falls_with_the_environment_steps(uneven):
    rates = uneven.history["train/learning_rate"][:, 0]
    rates = rates[np.isfinite(rates)]
    assert (np.diff(rates) < 0).all() and rates[-1] < 0.1 * rates[0]
    with pytest.raises(pg.RecipeError, match="would be another run"):
        pg.resume(uneven.path, total_timesteps=600)


def test_the_history_of_seeds_that_waited_is_whole(uneven):
    loaded = pg.load(uneven.path).history
    for key, values in uneven.history.items():
        if key != "time/fps":
            np.testing.assert_allclose(loaded[key], values, rtol=1e-6, err_msg=key)


def test_seeds_are_evaluated_on_episodes_of_their_own(uneven):
    first, second = uneven.evaluate(episodes=20, deterministic=False)
    assert first.returns.tolist() != second.returns.tolist()


def test_bad_calls_are_one_sentence(uneven):
    with pytest.raises(pg.RecipeError, match="whole number"):
        pg.evaluate(uneven.policy, "random", episodes=2.5)
    with pytest.raises(pg.RecipeError, match="seed must be"):
        pg.evaluate(uneven.policy, "random", episodes=2, seed=-1)
    with pytest.raises(pg.RecipeError, match="was not logged"):
        uneven.plot(key="nope")
    with pytest.raises(pg.RecipeError, match="total_timesteps=10 is less than one update"):
        pg.train("CartPole-v1", "reinforce", total_timesteps=10)


def test_the_best_policy_needs_no_other_file(uneven):
    """Last of all: it damages the run."""
    best = uneven.best_reward
    last = uneven.path / "checkpoints" / "last.safetensors"
    last.write_bytes(last.read_bytes()[:100])
    assert pg.load(uneven.path).best_reward.tolist() == best.tolist()
    with pytest.raises(ValueError, match=r"last\.safetensors"):
        pg.load(uneven.path, checkpoint="last")
