"""One ``make`` for all: what each id gives, and what is said about the others."""

import sys

import gymnasium
import numpy as np
import pytest
from recorder import Recorder

from policygrad import envs
from policygrad.envs import registry


@pytest.mark.parametrize("name", list(envs.names()))
def test_every_name_can_be_made(name):
    env = envs.make(name)
    assert isinstance(env, envs.Env)
    assert envs.make(env) is env
    assert not envs.is_host(env)
    assert envs.describe(name).startswith(f"{name}: ")


def test_ids_take_options():
    assert envs.make("CartPole-v1", time_limit=9).time_limit == 9
    assert envs.make("chain", n=3).n_states == 3
    assert envs.make("chain").time_limit == 100
    assert envs.make("probe:memory", delay=2).length == 3


def test_gymnasium_can_be_forced():
    env = envs.make("gym:CartPole-v1", num_envs=2)
    assert envs.is_host(env)
    assert envs.is_host("gym:CartPole-v1")
    assert not envs.is_host("CartPole-v1")
    assert envs.make(env) is env
    assert envs.env_id(env) == "gym:CartPole-v1"
    assert envs.describe("gym:CartPole-v1").startswith("gym:CartPole-v1: Gymnasium's own")
    env.close()


def test_ids_without_a_twin_are_gymnasiums():
    assert envs.is_host("FrozenLake-v1")
    registry.require_trainable("FrozenLake-v1")
    assert envs.describe("FrozenLake-v1") == "FrozenLake-v1: Gymnasium's own environment, stepped on the host"
    env = envs.make("FrozenLake-v1", num_envs=3, env_kwargs={"is_slippery": False})
    assert env.reset(seed=0).tolist() == [0, 0, 0]
    assert env.step(np.full(3, 2)).obs.tolist() == [1, 1, 1]


def test_gymnasiums_own_import_syntax():
    assert envs.is_host("recorded_worlds:Recorded-v0")
    registry.require_trainable("recorded_worlds:Recorded-v0")
    assert envs.make("recorded_worlds:Recorded-v0", num_envs=2).reset().shape == (2, 3)
    assert envs.make("gym:recorded_worlds:Recorded-v0").num_envs == 1


def test_a_users_own_may_be_gymnasiums():
    assert envs.is_host("recorder:Recorder")
    env = envs.make("recorder:Recorder", num_envs=2, env_kwargs={"first": 7})
    assert env.reset()[:, 0].tolist() == [7, 7]
    assert env.id == "recorder:Recorder"
    assert not envs.is_host("recorded_worlds:make")  # a function is known only when it is called
    assert envs.is_host(envs.make("recorded_worlds:make"))


def test_gymnasiums_objects_and_functions_are_taken():
    for thing in (gymnasium.make("CartPole-v1"), lambda: gymnasium.make("CartPole-v1"), Recorder):
        assert envs.is_host(thing)
        assert isinstance(envs.make(thing), envs.HostEnv)
    assert envs.env_id(gymnasium.make("CartPole-v1")) == "CartPoleEnv"
    assert envs.env_id(lambda: 0) == "env"


def test_a_user_says_what_is_run():
    assert (
        envs.describe("CartPole-v1") == "CartPole-v1: pure-JAX twin of Gymnasium's (gym:CartPole-v1 forces Gymnasium)"
    )
    assert envs.env_id(envs.CartPole()) == "CartPole"
    assert envs.env_id("Pendulum-v1") == "Pendulum-v1"
    assert envs.describe("brax:ant") == "brax:ant: Brax's physics, in pure JAX"
    assert envs.describe("ALE/Pong-v5") == "ALE/Pong-v5: Atari games, in C++ threads"


@pytest.mark.parametrize("make", [envs.make, registry.require_trainable])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cartpole-v1", "no environment 'cartpole-v1'. Did you mean CartPole-v1"),
        ("probe:memry", "Did you mean probe:memory"),
        ("HalfCheeta-v5", r"Did you mean HalfCheetah-v5(, [\w-]+)*\?"),
        ("gym:HalfCheeta-v5", r"Did you mean gym:HalfCheetah-v5(, gym:[\w-]+)*\?"),
        ("xyzzy", "no environment 'xyzzy'. `policygrad list` shows all names"),
    ],
)
def test_unknown_names_are_explained(make, name, message):
    with pytest.raises(ValueError, match=message):
        make(name)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("gymnax:CartPole-v1", "gymnax", "gymnax"),
        ("brax:ant", "brax", "brax"),
        ("ALE/Pong-v5", "ale_py", "atari"),
        ("gym:ALE/Pong-v5", "ale_py", "atari"),
        ("envpool:Pong-v5", "envpool", "envpool"),
    ],
)
def test_a_missing_package_names_the_extra(monkeypatch, name, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    for make in (registry.require_trainable, envs.make):
        with pytest.raises(ImportError, match=rf"pip install 'policygrad\[{extra}\]'"):
            make(name)


def test_unknown_options_are_explained():
    with pytest.raises(ValueError, match=r"CartPole-v1 has no option gravity. Its options: time_limit\."):
        envs.make("CartPole-v1", gravity=1.0)
    with pytest.raises(ValueError, match=r"Options .time_limit. are for ids only"):
        envs.make(envs.CartPole(), time_limit=3)


def test_other_objects_are_refused():
    for thing in (7, envs.CartPole, None):
        with pytest.raises(TypeError, match="is no environment"):
            envs.make(thing)


def test_an_object_needs_no_registration_and_no_draw():
    class Mine:
        observation_space = action_space = time_limit = None

        def reset(self, noise): ...

        def step(self, noise, state, action): ...

    mine = Mine()
    assert envs.make(mine) is mine
    assert envs.env_id(mine) == "Mine"
