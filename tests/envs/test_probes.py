"""Each probe pays what its docstring promises to the best policy, to chance, and (memory) to whoever forgets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.envs import PROBES
from policygrad.envs.probes import Memory

BEST = {
    "constant": lambda obs, cue: 0,
    "observation": lambda obs, cue: 0,
    "discount": lambda obs, cue: 0,
    "action": lambda obs, cue: 1,
    "observation-action": lambda obs, cue: (obs[0] > 0).astype(int),
    "action-continuous": lambda obs, cue: jnp.full(1, 0.5),
    "observation-action-continuous": lambda obs, cue: obs / 2,
    "memory": lambda obs, cue: (cue > 0).astype(int),
}


def returns(env, policy, gamma=1.0, n=4000):
    """``[n]`` discounted returns of ``policy(obs, first number shown, key)``; episodes must end at their length."""

    def episode(key):
        noise_key, *step_keys = jax.random.split(key, env.length + 1)
        noise = env.draw(noise_key, ())
        state, obs = env.reset(noise)
        cue, total, ends = obs[0], 0.0, []
        for t, step_key in enumerate(step_keys):
            state, obs, reward, terminated = env.step(noise, state, policy(obs, cue, step_key))
            total += gamma**t * reward
            ends.append(terminated)
        return total, jnp.stack(ends)

    total, ends = jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), n))
    assert np.array_equal(ends, np.broadcast_to(np.arange(env.length) == env.length - 1, ends.shape))
    return np.asarray(total, np.float64)


def at_random(space):
    if space.shape:
        return lambda obs, cue, key: jax.random.uniform(key, space.shape, minval=-1.0)
    return lambda obs, cue, key: jax.random.randint(key, (), 0, 2)


@pytest.mark.parametrize("name", PROBES)
def test_the_best_policy_gets_the_best_return(name):
    env, gamma = PROBES[name](), 0.7
    total = returns(env, lambda obs, cue, key: BEST[name](obs, cue), gamma)
    error = total.std() / np.sqrt(len(total))
    assert abs(total.mean() - env.value_at_start(gamma)) <= 4 * error + 1e-6
    assert env.value_at_start(1.0) == env.best_return


@pytest.mark.parametrize("name", PROBES)
def test_chance_gets_the_chance_return(name):
    env = PROBES[name]()
    total = returns(env, at_random(env.action_space))
    assert abs(total.mean() - env.chance_return) <= 4 * total.std() / np.sqrt(len(total)) + 1e-6


def test_the_cue_is_shown_once():
    env = Memory(delay=2)
    state, first = env.reset(jnp.asarray(0.9))
    state, second, _, _ = env.step(jnp.asarray(0.0), state, 0)
    state, third, _, _ = env.step(jnp.asarray(0.0), state, 0)
    assert [first.tolist(), second.tolist(), third.tolist()] == [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    assert env.length == 3


def test_who_forgets_the_cue_gets_chance():
    total = returns(Memory(delay=3), lambda obs, cue, key: 1)
    assert abs(total.mean()) <= 4 / np.sqrt(len(total))


def test_a_memory_without_delay_is_refused():
    with pytest.raises(ValueError, match="delay is 0"):
        Memory(delay=0)
