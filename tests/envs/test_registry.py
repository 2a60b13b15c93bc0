"""One ``make`` for all: what each id gives, and what is said about the others."""

import gymnasium
import pytest

from policygrad import envs


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
    assert envs.make(env) is env
    assert envs.env_id(env) == "gym:CartPole-v1"
    assert envs.describe("gym:CartPole-v1").startswith("gym:CartPole-v1: Gymnasium's own")
    env.close()


def test_a_user_says_what_is_run():
    assert (
        envs.describe("CartPole-v1") == "CartPole-v1: pure-JAX twin of Gymnasium's (gym:CartPole-v1 forces Gymnasium)"
    )
    assert envs.env_id(envs.CartPole()) == "CartPole"
    assert envs.env_id("Pendulum-v1") == "Pendulum-v1"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LunarLander-v3", "has no pure-JAX twin.*gym:LunarLander-v3 can be evaluated on"),
        ("ALE/Pong-v5", "has no pure-JAX twin.*gym:ALE/Pong-v5"),
        ("cartpole-v1", "no environment 'cartpole-v1'. Did you mean CartPole-v1"),
        ("probe:memry", "Did you mean probe:memory"),
        ("HalfCheeta-v5", r"Did you mean gym:HalfCheetah-v5(, gym:[\w-]+)*\?"),
        ("xyzzy", "no environment 'xyzzy'. `policygrad list` shows all names"),
    ],
)
def test_unknown_names_are_explained(name, message):
    with pytest.raises(ValueError, match=message):
        envs.make(name)


def test_unknown_options_are_explained():
    with pytest.raises(ValueError, match=r"CartPole-v1 has no option gravity. Its options: time_limit\."):
        envs.make("CartPole-v1", gravity=1.0)
    with pytest.raises(ValueError, match=r"Options .time_limit. are for ids only"):
        envs.make(envs.CartPole(), time_limit=3)


def test_other_objects_are_refused():
    for thing in (gymnasium.make("CartPole-v1"), 7, envs.CartPole):
        with pytest.raises(TypeError, match="is no environment of ours"):
            envs.make(thing)


def test_an_object_needs_no_registration_and_no_draw():
    class Mine:
        observation_space = action_space = time_limit = None

        def reset(self, noise): ...

        def step(self, noise, state, action): ...

    mine = Mine()
    assert envs.make(mine) is mine
    assert envs.env_id(mine) == "Mine"
