"""Every rule of an environment, broken once: the checker names it in one sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.envs import EnvError, check_env
from policygrad.envs.core import Env
from policygrad.types import MaskedObs


class Good(Env):
    """A drifting point; the noise is a key."""

    observation_space = spaces.Box(-100.0, 100.0, (2,))
    action_space = spaces.Discrete(2)
    time_limit = 20

    def reset(self, noise):
        state = jax.random.uniform(noise, (2,))
        return state, state

    def step(self, noise, state, action):
        state = state + 0.1 * action
        return state, state, state[0], state[0] > 50.0


def reset_to(state, obs):
    return lambda self, noise: (state, obs)


def step_to(change):
    """Good's step with one of its outputs changed."""
    return lambda self, noise, state, action: change(*Good.step(self, noise, state, action))


def branching_step(self, noise, state, action):
    return Good.step(self, noise, state + 1 if action > 0 else state, action)


def numpy_step(self, noise, state, action):
    return Good.step(self, noise, jnp.asarray(np.cos(np.asarray(state))), action)


def secret_step(self, noise, state, action):
    return Good.step(self, noise, state + np.random.default_rng().normal(), action)


def selfish_reset(self, noise):
    type(self).count = getattr(self, "count", 0) + 1
    return jnp.full(2, 1.0 * self.count), jnp.zeros(2)


def dividing_step(self, noise, state, action):
    state, _, _, terminated = Good.step(self, noise, state, action)
    return state, state, 1 / jnp.where(state[0] > 1.5, 0.0, 1.0), terminated


BROKEN = {
    "no spaces": ({"action_space": property()}, "it has no action_space"),
    "not a space": ({"observation_space": 4}, "observation_space is of type int, not a Gymnasium space"),
    "unsupported space": (
        {"action_space": spaces.Dict({"word": spaces.Text(2)})},
        "action_space holds a Text, which is not supp",
    ),
    "counts from one": ({"action_space": spaces.Discrete(2, start=1)}, "action_space counts from 1"),
    "integer box": ({"observation_space": spaces.Box(0, 255, (2,), np.int16)}, "Use a Box of floats"),
    "byte actions": ({"action_space": spaces.Box(0, 255, (2,), np.uint8)}, "Use a Box of floats"),
    "no dict": ({"observation_space": spaces.Dict({"x": Good.observation_space})}, "with the keys a .*has .'x'"),
    "no tuple": ({"observation_space": spaces.Tuple([Good.observation_space])}, "Return a tuple of 1"),
    "mask of numbers": (
        {"reset": lambda self, noise: (jnp.zeros(2), MaskedObs(jnp.zeros(2), jnp.ones(2)))},
        "a mask of dtype float32",
    ),
    "no axis": ({"observation_space": spaces.Box(0.0, 1.0, ())}, "with at least one axis"),
    "no step": ({"step": None}, "it has no method step"),
    "time limit zero": ({"time_limit": 0}, "time_limit is 0"),
    "time limit of another kind": ({"time_limit": 1.5}, "time_limit is 1.5"),
    "no time limit": ({"time_limit": property()}, "it has no time_limit"),
    "draw forgets the shape": (
        {"draw": lambda self, key, shape: jax.random.uniform(key)},
        r"Its shape must begin with",
    ),
    "reset returns one": ({"reset": lambda self, noise: jnp.zeros(2)}, "reset returned one .*Write reset"),
    "reset takes a seed": ({"reset": lambda self: None}, "raised TypeError"),
    "step returns five": ({"step": step_to(lambda *four: (*four, {}))}, "step returned 5 values. Write step"),
    "obs of another kind": ({"reset": reset_to(jnp.zeros(2), {"x": 1})}, "observation of type dict"),
    "obs shape": (
        {"reset": reset_to(jnp.zeros(2), jnp.zeros(3))},
        r"of shape \(3,\), but observation_space has \(2,\)",
    ),
    "obs dtype": (
        {"reset": reset_to(jnp.zeros(2), jnp.zeros(2, jnp.int32))},
        "of dtype int32, but observation_space has",
    ),
    "state of another kind": ({"reset": reset_to("here", jnp.zeros(2))}, "the state holds something of type str"),
    "state structure": (
        {"reset": reset_to((jnp.zeros(2),), jnp.zeros(2)), "step": lambda self, n, s, a: Good.step(self, n, s[0], a)},
        "the state is PyTreeDef.*after reset",
    ),
    "state dtype": (
        {"reset": reset_to(jnp.zeros(2, jnp.int32), jnp.zeros(2))},
        r"int32\[2\] after reset, but float32\[2\]",
    ),
    "reward shape": ({"step": step_to(lambda s, o, r, e: (s, o, s, e))}, r"the reward is float32\[2\]"),
    "reward dtype": ({"step": step_to(lambda s, o, r, e: (s, o, jnp.asarray(1), e))}, r"the reward is int32\[\]"),
    "reward not finite": ({"step": step_to(lambda s, o, r, e: (s, o, jnp.asarray(jnp.nan), e))}, "the reward is nan"),
    "reward not finite later": ({"step": dividing_step}, "a reward was not finite within 100"),
    "terminated": ({"step": step_to(lambda s, o, r, e: (s, o, r, 1.0 * e))}, r"terminated is float32\[\]"),
    "python if": ({"step": branching_step}, "step cannot be traced by JAX.*instead of `if`.*Tracer"),
    "numpy": ({"step": numpy_step}, "step cannot be traced by JAX. Use jnp instead of NumPy"),
    "secret randomness": ({"step": secret_step}, "step gave two answers to the same arguments"),
    "secret state": ({"reset": selfish_reset}, "reset gave two answers to the same arguments"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_named(what):
    change, message = BROKEN[what]
    env = type("Broken", (Good,), change)()
    with pytest.raises(EnvError, match=f"(?s)^Broken: .*{message}"):
        check_env(env, steps=100)


def test_a_good_environment_passes():
    assert check_env(Good(), steps=50) == []
    assert issubclass(EnvError, ValueError)


def test_a_plain_class_without_draw_and_with_python_constants_passes():
    class Plain:
        observation_space = spaces.Discrete(3)
        action_space = spaces.Box(-1.0, 1.0, (1,))
        time_limit = 5

        def reset(self, noise):
            return 0, jnp.asarray(0)

        def step(self, noise, state, action):
            return 0, jnp.asarray(2), 1.0, False

    assert check_env(Plain(), steps=10) == []


def test_a_class_is_no_environment():
    with pytest.raises(EnvError, match="Good: this is a class"):
        check_env(Good)


def test_leaving_the_bounds_is_a_warning():
    env = type("Wide", (Good,), {"observation_space": spaces.Box(-0.5, 0.5, (2,))})()
    (warning,) = check_env(env, steps=50)
    assert warning.startswith("Wide: observations went from")


def test_an_endless_episode_is_a_warning():
    env = type("Endless", (Good,), {"time_limit": None})()
    (warning,) = check_env(env, steps=50)
    assert "no episode ended within 50 random steps" in warning


def test_nested_spaces_and_masks_pass():
    class Nested(Good):
        observation_space = spaces.Dict({"x": Good.observation_space, "n": spaces.Tuple([spaces.MultiBinary(2)])})
        action_space = spaces.Dict({"a": spaces.MultiDiscrete([2, 3]), "b": spaces.Box(-1.0, 1.0, (1,))})

        def show(self, state):
            return MaskedObs({"x": state, "n": (jnp.ones(2, jnp.int32),)}, jnp.ones(5, bool))

        def reset(self, noise):
            state, obs = Good.reset(self, noise)
            return state, self.show(obs)

        def step(self, noise, state, action):
            state, obs, reward, terminated = Good.step(self, noise, state, action["a"])
            return state, self.show(obs), reward, terminated

    assert check_env(Nested(), steps=50) == []
