"""Gradients of many rungs at once: both ways give the gradients of single trajectories, leaf by leaf in order."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.learn import groups
from policygrad.learn.gradient import gradient_samples
from policygrad.learn.groups import by_layers, by_transposing, gradient_groups, is_layered
from policygrad.models import make_model
from policygrad.types import Trajectory

BOX, THREE = spaces.Box(-1, 1, (2,)), spaces.Discrete(3)
T, B, K = 3, 4, 5
MODELS = {
    "discrete": (THREE, {}),
    "all in one": (BOX, {"shared_torso": True, "normalize_obs": True}),
    "gSDE": (BOX, {"gsde": True, "net": (3,)}),
    "gru": (THREE, {"policy": "gru", "net": (3,)}),
}


def some(space, key):
    if isinstance(space, spaces.Discrete):
        return jax.random.randint(key, (T, B), 0, space.n)
    return 0.9 * jax.random.uniform(key, (T, B, *space.shape), minval=-1)


def setting(name):
    action_space, options = MODELS[name]
    model = make_model(BOX, action_space, key=jax.random.key(0), **{"net": (4, 3)} | options)
    move = lambda x: x + 0.3 if eqx.is_inexact_array(x) else x  # noqa: E731  so that no weight is special
    model = eqx.tree_at(lambda m: getattr(m, "model", m).actor, model, replace_fn=lambda a: jax.tree.map(move, a))
    keys = jax.random.split(jax.random.key(1), 3)
    carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (B, *x.shape)), model.initial())
    zero, time = jnp.zeros((T, B)), jnp.broadcast_to(jnp.arange(T)[:, None], (T, B))
    mask = jnp.ones((T, B), bool).at[1:, 0].set(False)
    trajectory = Trajectory(
        some(BOX, keys[0]), some(action_space, keys[1]), zero, zero > 0, zero > 0, zero, time, time == 0, mask, carry,
        jnp.zeros((1, B, 2)),
    )  # fmt: skip
    return model, trajectory, jax.random.normal(keys[2], (K, T, B))


@pytest.mark.parametrize("name", MODELS)
def test_groups_are_means_of_single_gradients(name):
    model, trajectory, weights = setting(name)
    found = eqx.filter_jit(lambda *a: gradient_groups(*a, 2))(model, trajectory, weights)
    single = eqx.filter_jit(jax.vmap(lambda w: gradient_samples(model, trajectory, w)))(weights)
    flat = np.concatenate([np.reshape(x, (K, B, -1)) for x in jax.tree.leaves(single)], axis=-1)
    assert np.abs(flat).max() > 0.1
    np.testing.assert_allclose(found, flat.reshape(K, 2, 2, -1).mean(axis=2), atol=2e-6)


def test_the_quick_way_is_taken_where_it_can_be():
    assert [name for name in MODELS if not is_layered(setting(name)[0])] == ["gru"]
    assert not is_layered(make_model(BOX, THREE, key=jax.random.key(0), frames=2))
    picture = make_model(spaces.Box(0, 255, (12, 12, 1), np.uint8), THREE, key=jax.random.key(0), net=(4,))
    assert not is_layered(picture)
    assert not is_layered(make_model(THREE, THREE, key=jax.random.key(0), policy="tabular"))
    model, trajectory, weights = setting("gSDE")
    np.testing.assert_allclose(
        by_layers(model, trajectory, weights), by_transposing(model, trajectory, weights), atol=2e-6
    )


@pytest.mark.parametrize("rows", [5, pytest.param(4, marks=pytest.mark.slow)])
def test_rows_are_taken_in_chunks(monkeypatch, rows):
    """12 rows as 5 + 5 + 2 and as 4 + 4 + 4; nothing that is no number beside a masked row gets in."""
    model, trajectory, weights = setting("discrete")
    whole = by_layers(model, trajectory, weights)
    monkeypatch.setattr(groups, "ROWS", rows)
    spoilt = jnp.where(trajectory.mask, weights, jnp.nan)
    np.testing.assert_allclose(by_layers(model, trajectory, spoilt), whole, atol=2e-6)
