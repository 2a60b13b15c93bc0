"""Maximum likelihood is the policy gradient with all weights 1; nothing but the actions' likelihoods counts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.envs.tabular import random_mdp
from policygrad.ladder import Psi
from policygrad.learn.gradient import Score, policy_gradient
from policygrad.learn.imitation import epoch, likelihood, likelihood_gradient
from policygrad.learn.learner import Hyper, make_learner
from policygrad.measure import enumerate_trajectories
from policygrad.models import make_model
from policygrad.models.actor_critic import initial_carry
from policygrad.types import Input, MaskedObs, Trajectory

pytestmark = pytest.mark.usefixtures("x64")

T, B, LENGTHS = 3, 3, (3, 1, 2)
BOX = spaces.Box(-1, 1, (2,))


def episodes(obs, action, model):
    """Padded demonstrations; garbage wherever the likelihood must not look."""
    time = jnp.broadcast_to(jnp.arange(T)[:, None], (T, B))
    mask = time < jnp.array(LENGTHS)
    return Trajectory(
        obs=obs, action=action, reward=jnp.full((T, B), jnp.nan), terminated=mask, truncated=mask,
        log_mu=jnp.full((T, B), -jnp.inf), time=time, start=time == 0, mask=mask,
        carry=initial_carry(model, (B,)), cut_obs=None,
    )  # fmt: skip


def case(name):
    """A model of each kind and demonstrations for it."""
    keys = jax.random.split(jax.random.key(0), 3)
    obs = jax.random.normal(keys[0], (T, B, 2))
    kinds = {
        "gaussian": (spaces.Box(-2, 2, (1,)), {}),
        "masked": (spaces.Discrete(3), {}),
        "recurrent": (spaces.Discrete(3), {"policy": "gru"}),
        "frames": (spaces.Discrete(3), {"frames": 2}),
        "time to go": (spaces.Discrete(3), {"horizon": T}),
    }
    action_space, options = kinds[name]
    model = make_model(BOX, action_space, key=keys[1], net=(4,), **options)
    if name == "gaussian":
        action: jax.Array = jax.random.normal(keys[2], (T, B, 1))
    else:
        action = jax.random.randint(keys[2], (T, B), 0, 3)
    if name == "masked":
        obs = MaskedObs(obs, jax.nn.one_hot((action + 1) % 3, 3) == 0)
    return model, episodes(obs, action, model)


@pytest.mark.parametrize(
    "name",
    ["masked", "recurrent", *(pytest.param(x, marks=pytest.mark.slow) for x in ("gaussian", "frames", "time to go"))],
)
def test_it_is_the_policy_gradient_with_all_weights_one(name):
    """The log-likelihood of every episode, step by step through the model: no unroll, no surrogate, no weights."""
    model, t = case(name)
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def log_likelihood(params):
        model, total = eqx.combine(params, static), 0.0
        for b in range(B):
            carry = jax.tree.map(lambda x, b=b: x[b], t.carry)
            for step in range(LENGTHS[b]):
                row = jax.tree.map(lambda x, at=(step, b): x[at], (t.obs, t.time, t.start, t.action))
                output, carry = model(Input(*row[:3]), carry)
                total = total + output.distribution.log_prob(row[3])
        return total / B

    mine = eqx.filter_jit(likelihood_gradient)(model, t)
    ones = eqx.filter_jit(policy_gradient)(model, t, jnp.ones((T, B)))
    by_hand = jax.jit(jax.grad(log_likelihood))(params)
    for a, b, c in zip(*map(jax.tree.leaves, (mine, ones, by_hand)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=0)
        np.testing.assert_allclose(a, c, atol=1e-12)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(mine)) > 1e-3


def test_the_dynamics_drop_out():
    """E over every trajectory of an expert, exactly: the gradient of Σ_τ p*(τ) log p_θ(τ), where log p_θ(τ) has the
    world's own probabilities in it."""
    mdp = random_mdp(3, 3, 2, branching=2, horizon=2)
    expert, clone = (
        jax.tree.map(lambda x, key=key: x + jax.random.normal(key, x.shape), table)
        for key, table in (
            (key, make_model(mdp.observation_space, mdp.action_space, key=key, policy="tabular"))
            for key in jax.random.split(jax.random.key(0))
        )
    )
    trajectory, probability = enumerate_trajectories(mdp, expert)
    params, static = eqx.partition(clone, eqx.is_inexact_array)

    def expected(params):
        _, own = enumerate_trajectories(mdp, eqx.combine(params, static))
        return jnp.sum(probability * jnp.log(own))

    columns = trajectory._replace(carry=None, cut_obs=None)
    one = lambda column: likelihood_gradient(clone, jax.tree.map(lambda x: x[:, None], column))  # noqa: E731
    each = jax.jit(jax.vmap(one, in_axes=1))(columns)
    total = jax.tree.map(lambda g: jnp.tensordot(probability, g, 1), each)
    for a, b in zip(jax.tree.leaves(total), jax.tree.leaves(jax.jit(jax.grad(expected))(params)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def learner_of(model, rate):
    return make_learner(
        lambda key: model, Psi("reward_to_go", "none"), kind=Score(), hyper=Hyper(rate, 0.0, 0.0, jnp.inf),
        optimizer="sgd",
    )  # fmt: skip


def test_an_epoch_sees_every_column_once():
    """With a rate so small that the parameters hardly move, a pass is the sum of its minibatches' gradients; a
    smaller last one is a mean of fewer rows."""
    model, t = case("gaussian")
    one = t._replace(mask=jnp.zeros_like(t.mask).at[0].set(True))  # columns of one row
    learner = learner_of(model, 1e-9)
    state = learner.init(jax.random.key(0))
    after = jax.jit(epoch(learner, 1))(state, one, jax.random.key(3))
    moved = jax.tree.map(lambda a, b: (a - b) / 1e-9 / B, after.params, state.params)
    for a, b in zip(
        jax.tree.leaves(moved), jax.tree.leaves(eqx.filter_jit(likelihood_gradient)(model, one)), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert int(jax.jit(epoch(learner, 2))(state, one, jax.random.key(3)).gradient_steps) == 2


@pytest.mark.parametrize("batch", [2, 5])
def test_the_likelihood_does_not_depend_on_the_batch(batch):
    model, t = case("recurrent")
    found, whole = eqx.filter_jit(likelihood)(model, t, batch), eqx.filter_jit(likelihood)(model, t, B)
    np.testing.assert_allclose(found, whole, atol=1e-12)
    rows = int(t.mask.sum())
    grads = eqx.filter_jit(eqx.filter_grad(lambda m: likelihood(m, t, batch).nll))(model)
    per_step = eqx.filter_jit(likelihood_gradient)(model, t, per="step")
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(per_step), strict=True):
        np.testing.assert_allclose(a, -b, atol=1e-12)
    assert 0 <= float(whole.accuracy) * rows <= rows and float(whole.accuracy * rows) % 1 == pytest.approx(0, abs=1e-9)


def test_accuracy_is_of_whole_numbers_alone():
    model, t = case("masked")
    assert float(likelihood(model, t, 2).accuracy) > 0
    allowed = t._replace(obs=t.obs._replace(mask=jax.nn.one_hot(t.action, 3) == 1))
    assert likelihood(model, allowed, 2).accuracy == 1 and abs(likelihood(model, allowed, 2).nll) < 1e-12
    model, t = case("gaussian")
    assert np.isnan(likelihood(model, t, 2).accuracy)
