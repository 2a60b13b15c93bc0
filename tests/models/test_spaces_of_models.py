"""Every observation space meets every kind of action: the model builds, acts, and learns with finite gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad import spaces as arrays
from policygrad.learn import policy_gradient
from policygrad.models import make_model, unroll
from policygrad.models.actor_critic import initial_carry
from policygrad.types import Input, MaskedObs, Trajectory

T, B = 3, 2
BOX = spaces.Box(-1.0, 1.0, (2,))
PICTURE = spaces.Box(0, 255, (3, 8, 9), np.uint8)
NESTED = spaces.Dict(
    {
        "see": spaces.Box(0, 255, (8, 9, 2), np.uint8),
        "feel": spaces.Tuple([spaces.Discrete(3, start=5), spaces.MultiBinary(2)]),
        "body": spaces.Box(-np.inf, np.inf, (2, 2)),
    }
)
OBSERVATIONS = {
    "box": BOX,
    "matrix": spaces.Box(-1.0, 1.0, (2, 3)),
    "scalar": spaces.Box(-1.0, 1.0, ()),
    "discrete": spaces.Discrete(4, start=-1),
    "multidiscrete": spaces.MultiDiscrete([3, 2]),
    "multibinary": spaces.MultiBinary(3),
    "picture": PICTURE,
    "grid": spaces.Box(0, 1, (6, 6, 4), bool),
    "nested": NESTED,
}
ACTIONS = {
    "two": spaces.Discrete(2),
    "five": spaces.Discrete(5, start=2),
    "box": BOX,
    "matrix": spaces.Box(-1.0, 2.0, (2, 2)),
    "multidiscrete": spaces.MultiDiscrete([3, 2, 4]),
    "multibinary": spaces.MultiBinary((2, 2)),
    "tree": spaces.Dict({"z": spaces.Discrete(3), "a": spaces.Tuple([BOX, spaces.MultiDiscrete([2, 2])])}),
}
PAIRS = [  # every space of both kinds, and every option, at least once
    ("box", "tree", {}),
    ("matrix", "box", {"bounds": "beta"}),
    ("scalar", "matrix", {"bounds": "tanh", "state_dependent_std": True}),
    ("discrete", "multidiscrete", {"policy": "tabular"}),
    ("multidiscrete", "multibinary", {"policy": "gru"}),
    ("multibinary", "matrix", {"gsde": True}),
    ("picture", "two", {"shared_torso": True, "frames": 2}),
    ("grid", "five", {"policy": "gru", "frames": 2}),
    ("nested", "tree", {"normalize_obs": True, "frames": 2}),
    ("nested", "box", {"gsde": True, "shared_torso": True, "net": ()}),
]


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Compiling is what these tests wait for."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def observations(space, shape, mask=None):
    """Elements that an environment might show, ``[*shape, ...]``."""
    space.seed(0)
    samples = [arrays.from_env(space, space.sample()) for _ in range(int(np.prod(shape)))]
    obs = jax.tree.map(lambda *x: np.stack(x).reshape(*shape, *np.shape(x[0])), *samples)
    return obs if mask is None else MaskedObs(obs, np.broadcast_to(mask, (*shape, len(mask))))


def model_of(obs, action, **options):
    options = {"net": (4,), **options}
    if options.get("policy") == "tabular":
        del options["net"]
    make = lambda key: make_model(OBSERVATIONS[obs], ACTIONS[action], key=key, **options)  # noqa: E731
    return eqx.filter_jit(make)(jax.random.key(0))


@eqx.filter_jit
def played(model, obs):
    """A window of sampled actions: its trajectory, the model's outputs along it, and the gradient of a surrogate."""
    time = jnp.broadcast_to(jnp.asarray([[3], [4], [0]]), (T, B))  # a new episode in the last row
    carry = initial_carry(model, (B,))

    def look(carry, row):
        output, carry = jax.vmap(lambda obs, time, carry: model(Input(obs, time, time == 0), carry))(*row, carry)
        return carry, output.distribution

    _, distribution = jax.lax.scan(look, carry, (obs, time))
    one = jax.tree.map(lambda x: x[0, 0], distribution)
    sample = lambda d, noise: (d.sample(noise), d.log_prob(d.sample(noise)))  # noqa: E731
    action, log_mu = jax.vmap(jax.vmap(sample))(distribution, one.draw(jax.random.key(1), (T, B)))
    zero, yes = jnp.zeros((T, B)), jnp.ones((T, B), bool)
    trajectory = Trajectory(obs, action, zero, ~yes, ~yes, log_mu, time, time == 0, yes, carry, None)
    weights = jnp.arange(1.0, 1 + T * B).reshape(T, B)
    return trajectory, unroll(model, trajectory)[0], policy_gradient(model, trajectory, weights)


@pytest.mark.parametrize(("obs", "action", "options"), PAIRS, ids=[f"{a}-{b}" for a, b, _ in PAIRS])
def test_a_model_acts_and_learns(obs, action, options):
    model = model_of(obs, action, **options)
    trajectory, output, gradient = played(model, observations(OBSERVATIONS[obs], (T, B)))
    space = ACTIONS[action]
    for t in range(T):
        element = arrays.to_env(space, jax.tree.map(lambda x: np.asarray(x[t, 0]), trajectory.action))  # noqa: B023
        assert space.contains(element)
    np.testing.assert_allclose(output.log_prob, trajectory.log_mu, rtol=2e-4, atol=2e-4)
    assert np.isfinite(output.value).all() and output.value.shape == (T, B)
    moved = jax.tree.leaves(gradient.actor)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    assert all(np.abs(x).max() > 0 for x in moved)


def test_the_covering_set_covers():
    assert {obs for obs, _, _ in PAIRS} == set(OBSERVATIONS)
    assert {action for _, action, _ in PAIRS} == set(ACTIONS)


@pytest.mark.parametrize(
    ("action", "mask", "options"),
    [
        ("five", [0, 1, 0, 1, 1], {"frames": 2, "normalize_obs": True}),
        ("multidiscrete", [1, 0, 0, 0, 1, 1, 1, 0, 1], {"policy": "gru"}),
    ],
)
def test_invalid_actions_are_never_chosen(action, mask, options):
    model = model_of("box", action, **options)
    obs = observations(BOX, (T, B), np.array(mask, bool))
    trajectory, output, gradient = played(model, obs)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    np.testing.assert_allclose(output.log_prob, trajectory.log_mu, atol=1e-5)
    one = jax.tree.map(lambda x: x[0, 0], output.distribution)
    chosen = jax.jit(jax.vmap(one.sample))(one.draw(jax.random.key(0), (100_000,)))
    chosen = np.asarray(chosen).reshape(100_000, -1)
    kinds = [5] if action == "five" else [3, 2, 4]
    valid = np.split(np.array(mask, bool), np.cumsum(kinds)[:-1])
    for column, allowed in zip(chosen.T, valid):
        assert set(np.unique(column)) == set(np.flatnonzero(allowed))
    if model.normalizer is not None:  # it looks at the observation alone
        seen = model.normalizer.obs.update(obs, np.ones((T, B), bool))
        np.testing.assert_allclose(seen.mean, obs.obs.reshape(-1, 2).mean(0), rtol=1e-5)


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"masks are for Discrete and MultiDiscrete action spaces"):
        model_of("box", "multibinary")(Input(MaskedObs(np.zeros(2), np.ones(4, bool)), 0, True), None)
    with pytest.raises(ValueError, match=r"the action mask has shape \(3,\): give one entry for each action, \(5,\)"):
        model_of("box", "five")(Input(MaskedObs(np.zeros(2), np.ones(3, bool)), 0, True), None)


REFUSED = [
    ("box", "two", {"bounds": "tanh"}, "bounds, gsde, log_std_init and state_dependent_std are about Box"),
    ("box", "two", {"gsde": True}, "about Box actions"),
    ("box", "box", {"gsde": True, "bounds": "beta"}, "gsde is a Gaussian"),
    ("box", "box", {"cnn": "nature"}, "cnn=nature needs a picture"),
    ("picture", "two", {"cnn": "nature"}, "at least 36 pixels a side, and this one has 8 × 9: set cnn=minatar"),
    ("picture", "two", {"normalize_obs": True}, "Discrete parts and pictures have nothing to normalise"),
    ("discrete", "two", {"policy": "tabular", "frames": 2}, "a tabular policy sees one observation"),
    ("box", "two", {"policy": "tabular"}, "needs a Discrete observation space"),
]


@pytest.mark.parametrize(("obs", "action", "options", "message"), REFUSED)
def test_options_that_do_not_fit_are_refused(obs, action, options, message):
    with pytest.raises(ValueError, match=message):
        make_model(OBSERVATIONS[obs], ACTIONS[action], key=jax.random.key(0), **options)


def test_an_unbounded_box_cannot_be_squashed():
    with pytest.raises(ValueError, match=r"bounds=beta needs a bounded action space.*set bounds=clip"):
        make_model(BOX, spaces.Box(-np.inf, np.inf, (1,)), key=jax.random.key(0), bounds="beta")
