"""gymnax and Brax without their resets and time limits: the true successor, and a truncation that is one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.envs import autoreset, check_env, make


def walk(name, steps, **options):
    """``steps`` random steps of the endless stream."""
    env = make(name, **options)
    stream = autoreset(env)
    key, act = jax.random.split(jax.random.key(0))

    @jax.jit
    def run():
        first = stream.reset(stream.draw(act, ())[1])
        actions = jax.random.randint(act, (steps,), 0, int(env.action_space.n))
        xs = (stream.draw(key, (steps,)), actions)
        return jax.lax.scan(lambda state, x: stream.step(x[0], state, x[1]), first, xs)[1]

    return env, run()


def test_gymnax_cartpole_is_cartpole():
    pytest.importorskip("gymnax")
    env, ours = make("gymnax:CartPole-v1"), make("CartPole-v1")
    assert env.time_limit == 500
    state, obs = env.reset(jax.random.key(1))
    noise = jax.random.key(2)
    for t in range(12):
        mine = (*obs,)
        state, obs, _, terminated = env.step(noise, state, jnp.asarray(1))
        _, same, _, end = ours.step(None, jnp.stack(mine), jnp.asarray(1))
        np.testing.assert_allclose(obs, same, atol=1e-5)
        assert bool(terminated) == bool(end), t
        if terminated:
            break
    assert terminated
    assert abs(obs[2]) > 0.2


def test_gymnax_limit_is_a_truncation():
    pytest.importorskip("gymnax")
    env, rows = walk("gymnax:CartPole-v1", 20, time_limit=5)
    assert env.time_limit == 5
    assert rows.truncated.nonzero()[0].tolist() == [4, 9, 14, 19]
    assert not rows.terminated.any()
    assert float(jnp.abs(rows.successor[4] - rows.obs[4]).max()) > 0.05


def test_gymnax_games_end_by_themselves():
    """MinAtar keeps in its state whether the game is over, its limit included: that must not leak."""
    pytest.importorskip("gymnax")
    env, rows = walk("gymnax:Breakout-MinAtar", 64, time_limit=7)
    ends = np.asarray(rows.terminated | rows.truncated)
    assert env.observation_space == spaces.Box(0.0, 1.0, (10, 10, 4), np.float32)
    assert rows.obs.dtype == jnp.float32
    assert rows.truncated.any()
    assert np.asarray(rows.length)[ends].max() == 7
    assert not rows.terminated[np.asarray(rows.length) == 7].all()


@pytest.mark.parametrize("name", ["Catch-bsuite", "DeepSea-bsuite", "Pendulum-v1"])
def test_gymnax_passes_our_checks(name):
    pytest.importorskip("gymnax")
    check_env(make(f"gymnax:{name}"), steps=20)


def test_gymnax_names_are_explained():
    pytest.importorskip("gymnax")
    with pytest.raises(ValueError, match=r"gymnax has no environment 'Cartpole-v1'. Did you mean gymnax:CartPole-v1"):
        make("gymnax:Cartpole-v1")


@pytest.mark.slow
def test_brax():
    pytest.importorskip("brax")
    env = make("brax:inverted_pendulum", time_limit=2)
    assert env.observation_space.shape == (4,)
    stream = autoreset(env)
    state = stream.reset(jax.random.key(0))
    step = jax.jit(stream.step)
    noise = stream.draw(jax.random.key(1), ())
    state, row = step(noise, state, jnp.zeros(1))
    assert (bool(row.terminated), bool(row.truncated), float(row.reward)) == (False, False, 1.0)
    state, row = step(noise, state, jnp.zeros(1))
    assert (bool(row.terminated), bool(row.truncated)) == (False, True)
    assert not np.array_equal(row.obs, row.successor)
    with pytest.raises(ValueError, match=r"Brax has no environment 'aunt'. Did you mean brax:ant"):
        make("brax:aunt")
