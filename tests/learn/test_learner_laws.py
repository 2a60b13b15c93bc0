"""One program or several, one run or many: the same numbers, up to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.collect import window_collector
from policygrad.envs.core import autoreset
from policygrad.envs.tabular import random_mdp
from policygrad.ladder import Psi
from policygrad.learn import Clipped, Hyper, Score, make_learner
from policygrad.models import make_model

MDP = random_mdp(0, 3, 2, n_terminal=1, time_limit=3)
HYPER = Hyper(learning_rate=0.02, ent_coef=0.01, vf_coef=0.5, max_grad_norm=0.5)


def make(key):
    return make_model(MDP.observation_space, MDP.action_space, key=key, policy="tabular")


@pytest.fixture(scope="module")
def a2c():
    learner = make_learner(
        make,
        Psi("lambda_return", "value", gamma=0.9, lam=0.8),
        kind=Score(),
        hyper=HYPER,
        per="step",
        critic_target="lambda_return",
    )
    return learner, window_collector(autoreset(MDP), n_envs=2, n_steps=4)


def close(tree, other, rtol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-7), tree, other)


def run(learner, collector, key, update, n=3):
    """A few windows with the given update: the state after them."""
    init, collect = (
        jax.jit(learner.init),
        jax.jit(lambda state, streams, key: collector.collect(learner.model(state), streams, key)[:2]),
    )
    state = init(key)
    streams = jax.jit(lambda state, key: collector.init(learner.model(state), key))(state, key)
    for k in range(n):
        now = jax.random.fold_in(key, k)
        streams, trajectory = collect(state, streams, now)
        state = update(state, trajectory, now)
    return state


@pytest.fixture(scope="module")
def fused(a2c):
    """A few windows in one program."""
    learner, collector = a2c

    def windows(key):
        state = learner.init(key)

        def step(loop, k):
            state, streams = loop
            now = jax.random.fold_in(key, k)
            streams, trajectory, _ = collector.collect(learner.model(state), streams, now)
            return (learner.update(state, trajectory, now)[0], streams), None

        return jax.lax.scan(step, (state, collector.init(learner.model(state), key)), jnp.arange(3))[0][0]

    return windows


@pytest.fixture(scope="module")
def alone(fused):
    return jax.jit(fused)


def test_a_fused_update_is_weigh_grad_apply(a2c, alone):
    learner, collector = a2c
    weigh, grad, apply = jax.jit(learner.weigh), jax.jit(learner.grad), jax.jit(learner.apply)

    def apart(state, trajectory, key):
        return apply(state, grad(state, weigh(state, trajectory), key)[0])

    key = jax.random.key(0)
    together, parts = alone(key), run(learner, collector, key, apart)
    close(together.params, parts.params)
    close(together.opt_state, parts.opt_state)
    assert together.gradient_steps == parts.gradient_steps == 3 and together.updates == 3
    first = jax.jit(learner.init)(key).params
    assert max(np.abs(a - b).max() for a, b in zip(jax.tree.leaves(together.params), jax.tree.leaves(first))) > 1e-3


def test_many_seeds_at_once_are_each_alone(fused, alone):
    keys = jax.random.split(jax.random.key(3), 2)
    many = jax.jit(jax.vmap(fused))(keys)
    for k, key in enumerate(keys):
        close(jax.tree.map(lambda x: x[k], many.params), alone(key).params)  # noqa: B023


def test_one_key_one_result(alone):
    key = jax.random.key(5)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), alone(key).params, alone(key).params)


@pytest.fixture(scope="module")
def window(a2c):
    """A model's arrays and a window that it played."""
    learner, collector = a2c

    @jax.jit
    def play(key):
        state = learner.init(key)
        return state, collector.collect(learner.model(state), collector.init(learner.model(state), key), key)[1]

    return play(jax.random.key(0))


@pytest.mark.slow
def test_an_update_without_jit_is_the_same(a2c, window):
    learner, _ = a2c
    close(
        learner.update(*window, jax.random.key(0))[0].params,
        jax.jit(learner.update)(*window, jax.random.key(0))[0].params,
    )


@pytest.mark.parametrize("per", ["step", "trajectory"])
def test_one_epoch_of_minibatches_passes_over_every_row_once(window, per):
    """With plain SGD and a tiny rate the minibatches of an epoch add up to one step with the whole window."""
    hyper = HYPER._replace(learning_rate=1e-4, max_grad_norm=jnp.inf, ent_coef=0.0)
    psi = Psi("lambda_return", "value", lam=0.8)
    options = {"kind": Clipped(0.2), "hyper": hyper, "per": per, "critic_target": "lambda_return", "optimizer": "sgd"}

    def move(n):
        learner = make_learner(make, psi, n_minibatches=n, **options)

        @jax.jit
        def one(params, trajectory, key):
            state = learner.init(key)._replace(params=params)
            return jax.tree.map(jnp.subtract, learner.update(state, trajectory, key)[0].params, params)

        return one(window[0].params, window[1], jax.random.key(0))

    one, two = move(1), move(2)
    norm = max(np.abs(x).max() for x in jax.tree.leaves(one))
    assert norm > 1e-6
    jax.tree.map(lambda a, b: np.testing.assert_allclose(2 * a, b, atol=0.02 * norm), one, two)


@pytest.mark.parametrize("normalized", [False, True])
def test_a_gradient_in_parts_is_the_whole_gradient(window, normalized):
    """Parts hold unequal numbers of valid rows; their means are weighed by them."""
    options = {"kind": Clipped(0.2), "hyper": HYPER, "per": "step", "critic_target": "lambda_return"}
    options |= {"normalize_advantage": normalized, "n_epochs": 2}  # so that divergence and clipping are measured too
    trajectory = window[1]
    trajectory = trajectory._replace(mask=trajectory.mask.at[1:3, 0].set(False))

    def found(rows):
        learner = make_learner(make, Psi("lambda_return", "value", lam=0.8), gradient_rows=rows, **options)
        state = learner.init(jax.random.key(0))
        return jax.jit(lambda: learner.grad(state, learner.weigh(state, trajectory), jax.random.key(1)))()

    close(found(None), found(3))
