"""Frame windows and memories: a whole trajectory at once equals one step after the other, values and gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.collect import window_collector
from policygrad.envs.core import Env, autoreset
from policygrad.ladder import Psi
from policygrad.learn import policy_gradient, steps_from
from policygrad.models import FrameWindow, make_model, unroll
from policygrad.models.actor_critic import initial_carry
from policygrad.types import Input, Trajectory

T, B = 4, 2
SPACE = spaces.Dict({"x": spaces.Box(-5.0, 5.0, (2,)), "kind": spaces.Discrete(2)})
TIME = np.array([[4, 0], [5, 1], [0, 2], [1, 0]])  # the first column begins inside an episode


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Compiling is what these tests wait for."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def model_of(space=SPACE, actions=3, **options):
    return make_model(space, spaces.Discrete(actions), key=jax.random.key(0), net=(3,), **options)


def window(model):
    """A trajectory whose first column goes on from an earlier one."""
    rng = np.random.default_rng(0)
    obs = {"x": jnp.asarray(rng.normal(size=(T, B, 2))), "kind": jnp.asarray(rng.integers(0, 2, (T, B)), jnp.int32)}
    zero, no = jnp.zeros((T, B)), jnp.zeros((T, B), bool)
    carry = jax.tree.map(lambda x: x + jnp.asarray(0.7, x.dtype), initial_carry(model, (B,)))
    time = jnp.asarray(TIME)
    action = jnp.asarray(rng.integers(0, 3, (T, B)))
    return Trajectory(obs, action, zero, no, no, zero, time, time == 0, ~no, carry, None)


def slow_log_probs(model, trajectory):
    """One row after the other, unbatched, with resets of its own: the model is never told of a start."""
    columns = []
    for b in range(B):
        carry = jax.tree.map(lambda x: x[b], trajectory.carry)  # noqa: B023
        rows = []
        for t in range(T):
            carry = model.initial() if TIME[t, b] == 0 else carry
            obs = jax.tree.map(lambda x: x[t, b], trajectory.obs)  # noqa: B023
            output, carry = model(Input(obs, trajectory.time[t, b], jnp.asarray(False)), carry)
            rows.append(output.distribution.log_prob(trajectory.action[t, b]))
        columns.append(jnp.stack(rows))
    return jnp.stack(columns, axis=1)


@pytest.mark.parametrize(
    "options",
    [
        *(pytest.param(x, marks=pytest.mark.slow) for x in ({"frames": 3}, {"policy": "gru"})),
        {"policy": "gru", "frames": 2},
    ],
    ids=str,
)
def test_a_trajectory_at_once_equals_an_unbatched_loop(options):
    model = model_of(**options)
    trajectory = window(model)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(T, B)))
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def slow(params):
        log_prob = slow_log_probs(eqx.combine(params, static), trajectory)
        return jnp.sum(log_prob * weights) / B, log_prob

    expected, log_prob = jax.jit(jax.grad(slow, has_aux=True))(params)
    fast = eqx.filter_jit(lambda model: (unroll(model, trajectory)[0], policy_gradient(model, trajectory, weights)))
    output, gradient = fast(model)
    np.testing.assert_allclose(output.log_prob, log_prob, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert any(np.abs(x).max() > 1e-3 for x in jax.tree.leaves(gradient))


def test_a_window_holds_the_last_frames_and_zeros_before_the_start():
    model = model_of(frames=3, normalize_obs=True)
    moved = jax.tree.map(lambda x: x + 1, model.model.normalizer)  # whose statistics do not map zero to zero
    model = eqx.tree_at(lambda m: m.model.normalizer, model, moved)
    carry = model.initial()
    looks = []
    for time, x in ((0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0), (0, 5.0)):
        obs = {"x": jnp.full(2, x), "kind": jnp.asarray(1)}
        past = carry.past
        _, carry = model(Input(obs, jnp.asarray(time), jnp.asarray(time == 0)), carry)
        frames = jax.tree.map(lambda old, new: jnp.concatenate([old, jnp.asarray(new, old.dtype)[None]]), past, obs)
        looks.append(np.asarray(model.encoder(frames, jnp.asarray(time))).reshape(3, 4))  # kind one-hot, then x
    expected = [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [0, 0, 5]]
    np.testing.assert_array_equal([look[:, 2] for look in looks], expected)
    np.testing.assert_array_equal(looks[1][:, :2], [[0, 0], [0, 1], [0, 1]])


def test_the_network_is_outside_the_scan():
    """No matrix product is part of a loop: the program of a window has one flat batch."""
    model = model_of(frames=3)
    text = str(jax.make_jaxpr(lambda trajectory: unroll(model, trajectory)[0].value)(window(model)))
    assert isinstance(model, FrameWindow) and "dot_general" in text
    assert "scan" not in text and "while" not in text


class Ramp(Env):
    """Shows the time; never ends."""

    observation_space = spaces.Box(0.0, 9.0, (1,))
    action_space = spaces.Discrete(2)
    time_limit = 3

    def reset(self, noise):
        return jnp.zeros(()), jnp.ones(1)

    def step(self, noise, state, action):
        return state + 1, (state + 2)[None], jnp.ones(()), jnp.zeros((), bool)


def test_values_at_cuts_see_the_window_that_ends_with_the_successor():
    model = model_of(Ramp.observation_space, 2, frames=2)
    collector = window_collector(autoreset(Ramp()), n_envs=1, n_steps=5)
    state, _, _ = jax.jit(collector.collect)(model, collector.init(model, jax.random.key(0)), jax.random.key(1))
    _, trajectory, _ = jax.jit(collector.collect)(model, state, jax.random.key(2))
    steps = jax.jit(lambda trajectory: steps_from(model, trajectory, Psi("td0", "value")))(trajectory)
    assert trajectory.time[:, 0].tolist() == [2, 0, 1, 2, 0]

    def value(older, newer, time):
        carry = model.initial()._replace(past=jnp.full((1, 1), older))
        return model(Input(jnp.full(1, newer), jnp.asarray(time), jnp.asarray(False)), carry)[0].value

    seen = [value(2.0, 3.0, 2), value(9.0, 1.0, 0), value(1.0, 2.0, 1), value(2.0, 3.0, 2), value(9.0, 1.0, 0)]
    np.testing.assert_allclose(steps.value[:, 0], seen, rtol=1e-5)
    after = [value(3.0, 4.0, 3), seen[2], seen[3], value(3.0, 4.0, 3), value(1.0, 2.0, 1)]
    np.testing.assert_allclose(steps.next_value[:, 0], after, rtol=1e-5)
