"""Simulated frequencies against the arrays, and the well-known MDPs against direct linear solves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.envs import (
    TabularMDP,
    TabularState,
    chain,
    cliff,
    grid,
    random_mdp,
    short_corridor,
    short_corridor_value,
)

ARRAYS = {"initial": np.array([1.0, 0.0]), "transition": np.full((2, 2, 2), 0.5), "reward_value": np.zeros((2, 2, 2))}


def values(mdp, policy, gamma=1.0):
    """V(s) of π(a|s) ``[S, A]`` by solving (I − γP)V = r on the states that are not terminal."""
    reward = np.einsum("sa,sat,satm,satm->s", policy, mdp.transition, mdp.reward_prob, mdp.reward_value)
    P = np.einsum("sa,sat->st", policy, mdp.transition)
    going = ~mdp.terminal
    V = np.zeros(mdp.n_states)
    V[going] = np.linalg.solve(np.eye(going.sum()) - gamma * P[np.ix_(going, going)], reward[going])
    return V


def best_values(mdp, sweeps=200):
    """Undiscounted optimal values by value iteration."""
    V = np.zeros(mdp.n_states)
    paid = (mdp.reward_prob * mdp.reward_value).sum(-1)
    for _ in range(sweeps):
        V = np.where(mdp.terminal, 0.0, (mdp.transition * (paid + V)).sum(-1).max(-1))
    return V


def test_simulation_follows_the_arrays():
    """Chi-squared-like: every frequency within five standard errors, and what is impossible never happens."""
    mdp, n, s, a = random_mdp(3, 4, 2, branching=3, n_rewards=2), 20_000, 2, 1
    state = TabularState(jnp.full(n, s), jnp.zeros(n, jnp.int32))
    state, obs, reward, terminated = jax.jit(jax.vmap(mdp.step))(
        mdp.draw(jax.random.key(0), (n,)), state, jnp.full(n, a)
    )
    pair = mdp.transition[s, a][:, None] * mdp.reward_prob[s, a]
    chosen = np.abs(np.asarray(reward)[:, None] - mdp.reward_value[s, a][np.asarray(state.s)]).argmin(axis=1)
    frequency = np.zeros_like(pair)
    np.add.at(frequency, (np.asarray(state.s), chosen), 1 / n)
    assert np.all(np.abs(frequency - pair) <= 5 * np.sqrt(pair * (1 - pair) / n))
    np.testing.assert_allclose(reward, mdp.reward_value[s, a, state.s, chosen], rtol=1e-6)
    assert not terminated.any()
    assert obs.dtype == jnp.int32
    assert np.array_equal(state.time, np.ones(n))

    start, _ = jax.vmap(mdp.reset)(mdp.draw(jax.random.key(1), (n,)))
    frequency = np.bincount(start.s, minlength=4) / n
    assert np.all(np.abs(frequency - mdp.initial) <= 5 * np.sqrt(mdp.initial * (1 - mdp.initial) / n))


def test_impossible_outcomes_are_never_drawn_at_the_edges():
    mdp = TabularMDP(np.array([0, 1, 0]), np.broadcast_to([0.0, 1.0, 0.0], (3, 1, 3)), np.zeros((3, 1, 3)))
    for u in (0.0, 1 - 2**-24):
        state, _ = mdp.reset(jnp.full(2, u))
        assert state.s == 1
        assert mdp.step(jnp.full(2, u), state, 0)[0].s == 1


def test_the_corridor_is_best_walked_at_random():
    mdp = short_corridor()

    def value(p):
        return values(mdp, np.broadcast_to([1 - p, p], (4, 2)))[0]

    for p in (0.1, 0.5, 0.9):
        np.testing.assert_allclose(short_corridor_value(p), value(p), rtol=1e-12)
    best = 2 - np.sqrt(2)
    np.testing.assert_allclose(value(best), -6 - 4 * np.sqrt(2), rtol=1e-12)
    assert value(best) > max(value(best - 0.01), value(best + 0.01))
    assert mdp.observation_space.n == 1
    state, obs = mdp.reset(jnp.zeros(2))
    state, obs, reward, terminated = mdp.step(jnp.zeros(2), state, 1)
    state, obs, reward, terminated = mdp.step(jnp.zeros(2), state, 1)  # switched: right leads left
    assert (int(state.s), int(obs), float(reward), bool(terminated)) == (0, 0, -1.0, False)


def test_the_best_values_of_the_walks():
    assert best_values(cliff())[36] == -13
    assert best_values(grid(3, 5))[0] == -6
    assert best_values(chain(6))[0] == 1
    always_right = np.broadcast_to([0.0, 1.0], (4, 2))
    np.testing.assert_allclose(values(chain(4), always_right, gamma=0.5)[0], 0.25)
    # From the wall, a fair walk needs k(k + 1) steps on average to get k = 3 states to the right.
    mdp = chain(4, slip=0.5)
    steps = TabularMDP(mdp.initial, mdp.transition, np.ones((4, 2, 4)), terminal=mdp.terminal)
    np.testing.assert_allclose(values(steps, np.full((4, 2), 0.5))[0], 12)
    assert grid(2, 2, slip=1.0).transition[0, 0].tolist() == [0.5, 0.25, 0.25, 0.0]


def test_falling_off_the_cliff():
    mdp = cliff()
    state, _ = mdp.reset(jnp.zeros(2))
    state, obs, reward, terminated = mdp.step(jnp.zeros(2), state, 1)
    assert (int(state.s), int(obs), float(reward), bool(terminated)) == (36, 36, -100.0, False)


def test_the_horizon_is_an_end():
    mdp = random_mdp(0, 3, 2, horizon=2, time_limit=7)
    noise = mdp.draw(jax.random.key(0), ())
    state, _ = mdp.reset(noise)
    state, _, _, first = mdp.step(noise, state, 0)
    state, _, _, second = mdp.step(noise, state, 0)
    assert (bool(first), bool(second), mdp.time_limit) == (False, True, 7)


def test_random_mdps():
    mdp = random_mdp(1, 6, 2, branching=2, n_rewards=3, n_terminal=1, n_observations=3)
    assert np.all((mdp.transition[:5] > 0).sum(-1) == 2)
    assert mdp.terminal.tolist() == [False] * 5 + [True]
    assert mdp.observation.tolist() == [0, 1, 2, 0, 1, 2]
    assert mdp.reward_value.shape == (6, 2, 6, 3)
    assert mdp.transition.dtype == mdp.reward_value.dtype == np.float64
    assert np.array_equal(mdp.transition, random_mdp(1, 6, 2, branching=2, n_terminal=1).transition)
    assert not np.array_equal(mdp.transition, random_mdp(2, 6, 2, branching=2, n_terminal=1).transition)
    same = [random_mdp(jax.random.key(5)).transition, random_mdp(jax.random.PRNGKey(5)).transition]
    assert np.array_equal(*same)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transition": np.ones((2, 2, 3))}, r"transition has shape \(2, 2, 3\); it must be \[S, A, S\]"),
        ({"initial": np.array([1.0])}, "initial has shape"),
        ({"reward_value": np.zeros((2, 2))}, "reward_value has shape"),
        ({"reward_prob": np.ones((2, 2, 2, 2))}, "reward_prob has shape"),
        ({"transition": np.full((2, 2, 2), 0.4)}, r"transition\[0, 0\] sums to 0.8, not to 1"),
        ({"initial": np.array([1.5, -0.5])}, "initial holds a number that is negative"),
        ({"initial": np.array([0.4, 0.4])}, "initial sums to 0.8"),
        ({"reward_value": np.full((2, 2, 2), np.inf)}, "reward_value holds a number that is not finite"),
        ({"terminal": np.array([0, 1])}, "terminal has dtype int64"),
        ({"terminal": np.array([True, False])}, "initial starts in a terminal state"),
        ({"observation": np.array([0, 5]), "n_observations": 2}, "observation must hold integers from 0 to 1"),
        ({"horizon": 0}, "horizon is 0"),
        ({"time_limit": -1}, "time_limit is -1"),
    ],
)
def test_wrong_arrays_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TabularMDP(**{**ARRAYS, **change})


def test_wrong_options_are_refused():
    for make in (lambda: chain(1), lambda: grid(1, 1), lambda: chain(3, slip=2.0), lambda: random_mdp(branching=9)):
        with pytest.raises(ValueError):
            make()


def test_arrays_at_rest_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        chain().transition[0, 0, 0] = 1.0
