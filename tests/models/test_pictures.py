"""Pictures: which parts are, how they are laid out, and what the convolutions make of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.models import actor_critic, make_model
from policygrad.models.actor_critic import rows_at_once, unroll
from policygrad.models.encoder import make_encoder
from policygrad.models.networks import CNN, LAYOUTS
from policygrad.types import Trajectory


def encoder(space, cnn="auto", frames=1, horizon=None):
    return make_encoder(space, tabular=False, horizon=horizon, frames=frames, cnn=cnn)


@pytest.mark.parametrize(
    ("shape", "dtype", "layout"),
    [
        ((84, 84, 4), np.uint8, "nature"),
        ((4, 84, 84), np.uint8, "nature"),
        ((36, 40, 3), np.uint8, "nature"),
        ((35, 40, 3), np.uint8, "minatar"),
        ((10, 10, 4), bool, "minatar"),
        ((10, 10, 7), np.float32, "minatar"),
        ((2, 2, 1), np.uint8, "none"),
        ((10, 10, 10), np.uint8, "none"),
        ((10, 3, 10), np.uint8, "none"),
        ((84, 84), np.uint8, "none"),
    ],
)
def test_the_layout_follows_the_shape(shape, dtype, layout):
    space = spaces.Box(0, 1, shape, dtype)
    assert encoder(space).layouts == (layout,)
    assert encoder(space, cnn="none").layouts == ("none",)
    assert encoder(space, cnn="none").size == np.prod(shape)


def test_channels_become_the_last_axis_and_frames_lie_over_each_other():
    picture = jnp.arange(3 * 5 * 6, dtype=jnp.uint8).reshape(3, 5, 6)
    first = encoder(spaces.Box(0, 255, (3, 5, 6), np.uint8))
    seen = first(picture, jnp.asarray(0))
    assert seen.vector.shape == (0,) and seen.pictures[0].dtype == jnp.uint8
    np.testing.assert_array_equal(seen.pictures[0], np.moveaxis(np.asarray(picture), 0, -1))
    two = encoder(spaces.Box(0, 255, (3, 5, 6), np.uint8), frames=2)
    assert two.shapes == [("minatar", (5, 6, 6))]
    overlaid = two(jnp.stack([picture, picture + 1]), jnp.asarray(1)).pictures[0]
    np.testing.assert_array_equal(overlaid[..., :3], seen.pictures[0])
    np.testing.assert_array_equal(overlaid[..., 3:], seen.pictures[0] + 1)
    hidden = two(jnp.stack([picture, picture + 1]), jnp.asarray(0)).pictures[0]
    assert hidden.dtype == jnp.uint8 and not hidden[..., :3].any() and hidden[..., 3:].any()


def test_vector_parts_stand_beside_the_pictures():
    space = spaces.Dict({"b": spaces.Box(0, 255, (5, 6, 3), np.uint8), "a": spaces.Discrete(2), "c": spaces.Box(0, 1)})
    obs = {"a": jnp.asarray(1), "b": jnp.zeros((5, 6, 3), jnp.uint8), "c": jnp.full(1, 0.5)}
    seen = encoder(space, horizon=4)(obs, jnp.asarray(1))
    np.testing.assert_allclose(seen.vector, [0, 1, 0.5, 0.75])
    assert encoder(space, horizon=4).size == 4 and len(seen.pictures) == 1


@pytest.mark.parametrize(("layout", "sizes"), [("nature", (20, 9, 7)), ("a3c", (20, 9)), ("minatar", (82,))])
def test_the_layouts_have_the_papers_sizes(layout, sizes):
    """Shapes alone: nothing is computed."""
    cnn = jax.eval_shape(lambda key: CNN((84, 84, 4), layout, key=key), jax.random.key(0))
    assert cnn.dense.weight.shape == (LAYOUTS[layout].dense, sizes[-1] ** 2 * LAYOUTS[layout].convolutions[-1][0])
    output = jax.eval_shape(lambda cnn, x: cnn(x), cnn, jnp.zeros((84, 84, 4), jnp.uint8))
    assert output.shape == (LAYOUTS[layout].dense,)


def test_a_convolution_is_the_sum_over_its_window_and_bytes_are_divided_by_255():
    cnn = CNN((4, 5, 2), "minatar", key=jax.random.key(0))
    layer = cnn.convolutions[0]
    weight = np.asarray(layer.weight)
    np.testing.assert_allclose(weight.reshape(18, 16).T @ weight.reshape(18, 16), 2 * np.eye(16), atol=1e-5)
    picture = np.random.default_rng(0).integers(0, 255, (4, 5, 2), dtype=np.uint8)
    x = picture / 255
    out = np.array([[np.tensordot(x[i : i + 3, j : j + 3], weight, axes=3) for j in range(3)] for i in range(2)])
    hidden = np.maximum(out, 0).reshape(-1)
    expected = np.maximum(np.asarray(cnn.dense.weight) @ hidden, 0)
    np.testing.assert_allclose(jax.jit(lambda x: cnn(x))(picture), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda x: cnn(x))(x.astype(np.float32)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("side", "fix"), [(30, "set cnn=a3c"), (10, "set cnn=minatar"), (2, "set cnn=none")])
def test_a_picture_that_is_too_small_is_refused_with_a_layout_that_fits(side, fix):
    with pytest.raises(ValueError, match=f"at least 36 pixels a side, and this one has {side} × {side}: {fix}"):
        CNN((side, side, 1), "nature", key=jax.random.key(0))


@pytest.mark.parametrize(
    "layout", ["minatar", *(pytest.param(name, marks=pytest.mark.slow) for name in LAYOUTS if name != "minatar")]
)
def test_patches_and_a_matrix_product_are_the_convolution(layout):
    """Sides that no stride divides; the same numbers and the same gradient as XLA's own."""
    side = LAYOUTS[layout].smallest + 5
    picture = jax.random.normal(jax.random.key(0), (side, side + 2, 3))
    assert rows_at_once(make_model(spaces.Box(0, 255, (36, 36, 3), np.uint8), spaces.Discrete(2), net=(),
                                   key=jax.random.key(0), looped=False)) is None  # fmt: skip
    for layer in CNN(picture.shape, layout, key=jax.random.key(1)).convolutions:

        def own(w, layer=layer, x=picture):
            return eqx.tree_at(lambda m: m.weight, layer, w)(x)

        def direct(w, layer=layer, x=picture):
            how = {"window_strides": (layer.stride,) * 2, "padding": "VALID"}
            dimensions = ("NHWC", "HWIO", "NHWC")
            return jax.nn.relu(jax.lax.conv_general_dilated(x[None], w, **how, dimension_numbers=dimensions)[0])

        np.testing.assert_allclose(own(layer.weight), direct(layer.weight), atol=2e-5)
        one, other = (jax.grad(lambda w, f=f: jnp.sum(f(w) ** 2))(layer.weight) for f in (own, direct))
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
        picture = own(layer.weight)


def test_rows_with_pictures_are_taken_in_parts(monkeypatch):
    """7 rows at once and three at a time: the same outputs and the same gradient."""
    space, actions = spaces.Box(0, 255, (10, 10, 2), np.uint8), spaces.Discrete(3)
    model = make_model(space, actions, key=jax.random.key(0), net=(), shared_torso=True)
    assert rows_at_once(model) == actor_critic.PIXELS // 100
    assert rows_at_once(make_model(spaces.Box(0, 1, (4,)), actions, key=jax.random.key(0))) is None
    obs = jax.random.randint(jax.random.key(1), (7, 1, 10, 10, 2), 0, 255).astype(jnp.uint8)
    zero = jnp.zeros((7, 1))
    no, number = zero > 0, zero.astype(int)
    trajectory = Trajectory(obs, number, zero, no, no, zero, number, no, ~no, None, obs[-1:])

    def look():
        weights = jnp.arange(7)[:, None]
        score = eqx.filter_value_and_grad(lambda model: jnp.sum(unroll(model, trajectory)[0].log_prob * weights))
        return eqx.filter_jit(score)(model)

    whole, direction = look()
    monkeypatch.setattr(actor_critic, "PIXELS", 300)
    parts, same = look()
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), same, direction)
