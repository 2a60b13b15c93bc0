"""The value of the true successor, at every row: ``cut_obs`` and its slots against a slow loop that asks the critic at
each successor."""

from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.collect import episode_collector, window_collector
from policygrad.envs.core import Env, autoreset
from policygrad.ladder import Psi
from policygrad.learn import steps_from
from policygrad.models import make_model, unroll
from policygrad.types import Input


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Compiling is what these tests wait for."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@dataclass(frozen=True)
class Counter(Env):
    """The observation counts the steps of an episode, from a random start; every successor's observation is its
    predecessor's plus one."""

    end: int | None = None
    time_limit: int | None = 3
    observation_space = spaces.Box(-100.0, 100.0, (1,))
    action_space = spaces.Discrete(2)

    def reset(self, noise):
        state = 10.0 * jax.random.randint(noise, (), 0, 5).astype(float)
        return state, state[None]

    def step(self, noise, state, action):
        state = state + 1
        return state, state[None], jnp.ones(()), jnp.zeros((), bool) if self.end is None else state % 10 == self.end


@cache
def model_of(policy):
    return make_model(Counter.observation_space, Counter.action_space, key=jax.random.key(0), policy=policy, net=(3,))


def slow_next_values(model, trajectory):
    """Row by row, unbatched: V of obs + 1 one step later, with the memory as it is after the row; zero at ends."""
    step = jax.jit(model.__call__)
    out = np.zeros(trajectory.mask.shape)
    for b in range(out.shape[1]):
        carry = jax.tree.map(lambda x: x[b], trajectory.carry)  # noqa: B023
        for t in range(len(out)):
            row = Input(trajectory.obs[t, b], trajectory.time[t, b], trajectory.start[t, b])
            _, carry = step(row, carry)
            successor = Input(row.obs + 1, row.time + 1, jnp.zeros((), bool))
            if trajectory.mask[t, b] and not trajectory.terminated[t, b]:
                out[t, b] = step(successor, carry)[0].value
    return out


def collected(collector, policy, windows=2):
    """The last of some windows, with what the ladder sees of it."""
    model = model_of(policy)
    state = collector.init(model, jax.random.key(1))
    for k in range(windows):
        state, trajectory, _ = jax.jit(collector.collect)(model, state, jax.random.key(2 + k))
    steps = jax.jit(lambda trajectory: steps_from(model, trajectory, Psi("td0", "value")))(trajectory)
    return model, trajectory, steps


@pytest.mark.parametrize("policy", [pytest.param("mlp", marks=pytest.mark.slow), "gru"])
def test_successors_in_a_window_with_several_truncations(policy):
    model, trajectory, steps = collected(window_collector(autoreset(Counter()), n_envs=2, n_steps=8), policy)
    assert trajectory.truncated.sum(axis=0).tolist() == [3, 3] and trajectory.time[0].tolist() == [
        2,
        2,
    ]  # the window begins inside an episode
    assert trajectory.cut_obs.shape == (4, 2, 1)
    np.testing.assert_allclose(steps.next_value, slow_next_values(model, trajectory), atol=1e-6)
    assert np.asarray(steps.last).sum(axis=0).tolist() == [4, 4]


@pytest.mark.parametrize("policy", ["mlp", pytest.param("gru", marks=pytest.mark.slow)])
def test_ends_truncations_and_padding_in_whole_episodes(policy):
    stream = autoreset(Counter(end=2), time_limit=3)  # starts at 0, 10, …: ends after two steps
    model, trajectory, steps = collected(episode_collector(stream, 2), policy, windows=1)
    assert trajectory.terminated[1].all() and not trajectory.mask[2].any()
    np.testing.assert_allclose(steps.next_value, slow_next_values(model, trajectory), atol=1e-6)
    model, trajectory, steps = collected(
        episode_collector(autoreset(Counter(end=7), time_limit=3), 2), policy, windows=1
    )
    assert trajectory.truncated[2].all() and trajectory.mask.all()
    np.testing.assert_allclose(steps.next_value, slow_next_values(model, trajectory), atol=1e-6)


def test_ends_and_truncations_in_one_window():
    """Ends take no slot: a column may hold both kinds in any order."""
    stream = autoreset(Counter(end=4), time_limit=3)
    model, trajectory, steps = collected(window_collector(stream, n_envs=3, n_steps=7), "gru")
    np.testing.assert_allclose(steps.next_value, slow_next_values(model, trajectory), atol=1e-6)
    ended = trajectory._replace(
        terminated=trajectory.terminated.at[1].set(True), truncated=trajectory.truncated.at[1].set(False)
    )
    assert not np.asarray(steps_from(model, ended, Psi("td0", "value")).next_value[1]).any()


def test_the_memory_of_a_window_goes_on_where_the_last_one_stopped():
    """Two windows of four rows show the same values as one of eight: the carry crosses the border, and so does the
    cut's value."""
    env = Counter(time_limit=5)
    model = model_of("gru")
    collector = window_collector(autoreset(env), n_envs=2, n_steps=8)
    _, whole, _ = jax.jit(collector.collect)(model, collector.init(model, jax.random.key(1)), jax.random.key(2))
    psi = Psi("td0", "value")
    steps = jax.jit(lambda trajectory: steps_from(model, trajectory, psi))
    full = steps(whole)
    carry = jax.tree.map(lambda x: x[3], unroll(model, whole)[1])
    rows = whole._replace(carry=None, cut_obs=None)
    halves = [jax.tree.map(lambda x: x[rows_], rows) for rows_ in (slice(0, 4), slice(4, 8))]  # noqa: B023
    first = halves[0]._replace(carry=whole.carry, cut_obs=whole.obs[4][None])
    second = halves[1]._replace(carry=carry, cut_obs=whole.cut_obs)
    for name in ("value", "next_value", "log_rho"):
        joined = np.concatenate([getattr(steps(first), name), getattr(steps(second), name)])
        np.testing.assert_allclose(joined, getattr(full, name), atol=1e-6)
