"""Elements of spaces as trees of arrays, there and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad import spaces as arrays
from policygrad.types import MaskedObs

NESTED = spaces.Dict(
    {
        "z": spaces.Discrete(3, start=4),
        "a": spaces.Tuple([spaces.Box(-1.0, 1.0, (2, 2)), spaces.MultiDiscrete([2, 3], start=[1, 5])]),
        "m": spaces.MultiBinary(2),
    }
)


def test_what_an_environment_shows_goes_there_and_back():
    NESTED.seed(0)
    element = NESTED.sample()
    ours = arrays.from_env(NESTED, element)
    assert ours["z"] == element["z"] - 4 and ours["z"].dtype == np.int32
    np.testing.assert_array_equal(ours["a"][1], element["a"][1] - [1, 5])
    back = arrays.to_env(NESTED, ours)
    assert NESTED.contains(back)
    np.testing.assert_array_equal(back["a"][1], element["a"][1])
    batch = jax.tree.map(lambda x: np.stack([x, x]), ours)
    assert arrays.to_env(NESTED, batch)["z"].tolist() == [element["z"]] * 2


def test_what_is_kept_is_a_copy():
    box = spaces.Box(-1.0, 1.0, (2,))
    buffer = np.zeros(2, np.float32)
    kept = arrays.from_env(box, buffer)
    buffer[:] = 1
    assert not kept.any()


def test_a_box_action_is_clipped_wherever_it_stands():
    action = {"z": jnp.asarray(2), "a": (jnp.full((2, 2), 7.0), jnp.zeros(2, int)), "m": jnp.ones(2)}
    clipped = arrays.to_bounds(NESTED, action)
    assert (clipped["a"][0] == 1).all() and clipped["z"] == 2
    assert (arrays.to_env(NESTED, jax.tree.map(np.asarray, action))["a"][0] == 1).all()


def test_the_flat_vector_is_as_wide_as_promised_and_in_the_order_of_the_leaves():
    element = {"m": np.array([1, 0]), "z": np.array(2), "a": (np.full((2, 2), 0.5), np.array([1, 0]))}
    vector = arrays.flat(NESTED, element)
    assert vector.shape == (arrays.width(NESTED),)
    np.testing.assert_array_equal(vector, [0.5, 0.5, 0.5, 0.5, 0, 1, 1, 0, 0, 1, 0, 0, 0, 1])
    leaves = jax.tree.leaves(arrays.zeros(NESTED))
    assert [x.shape for x in leaves] == [part.shape or () for part in arrays.parts(NESTED)]


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_key_of_a_dict_becomes_the_mask(shape):
    space = spaces.Dict({"obs": spaces.Box(0.0, 1.0, (2,)), "action_mask": spaces.MultiBinary(4)})
    obs = {"obs": np.zeros((*shape, 2)), "action_mask": np.ones((*shape, 4), np.int8)}
    shown = arrays.masked(space, obs)
    assert isinstance(shown, MaskedObs) and set(shown.obs) == {"obs"}
    assert shown.mask.dtype == bool and shown.mask.shape == (*shape, 4)
    assert list(arrays.without(space).spaces) == ["obs"]
    assert arrays.unmasked(shown) == (shown.obs, shown.mask)


def test_spaces_without_a_mask_stay_as_they_are():
    obs = {"z": 1}
    assert arrays.masked(NESTED, obs) is obs and arrays.without(NESTED) is NESTED
    assert arrays.unmasked(obs) == (obs, None)


@pytest.mark.parametrize(
    ("shape", "axis"), [((84, 80, 3), 2), ((3, 84, 80), 0), ((84, 3, 84), None), ((5, 5, 5), None), ((5, 3), None)]
)
def test_the_channels_are_the_shortest_axis(shape, axis):
    assert arrays.channel_axis(spaces.Box(0, 1, shape)) == axis


def test_a_static_space_is_equal_where_the_space_is():
    one, same, other = (arrays.StaticSpace(spaces.Box(0.0, high, (2,))) for high in (1.0, 1.0, 2.0))
    assert one == same and hash(one) == hash(same) and one != other


def test_a_space_without_a_fixed_shape_is_refused_with_the_fix():
    text = spaces.Dict({"say": spaces.Text(5), "x": spaces.Discrete(2)})
    with pytest.raises(ValueError, match="talk: its observation space holds a Text, which has no fixed shape: turn"):
        arrays.require_supported("talk", text, spaces.Discrete(2))
    arrays.require_supported("fine", NESTED, NESTED)
