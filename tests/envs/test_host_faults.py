"""What a user's environment may do to us on the host, at any step: each is one sentence, and none ends the process."""

import os
import re
import time
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from policygrad.cli.main import main
from policygrad.envs import GymnasiumEnv, HostError, host
from policygrad.spaces import to_env


class World(gymnasium.Env):
    """Ten random steps, paid with the step; from step ``late`` on ``change`` is put into the answer."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, late=6, **change):
        self.late, self.change, self.n = late, change, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.t, self.n = self.t + 1, self.n + 1
        obs = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        answer = {"obs": obs, "reward": 1.0, "terminated": False, "truncated": self.t == 10, "info": {}}
        return tuple((answer | (self.change if self.n >= self.late else {})).values())


def played(env, steps=8):
    env.reset(seed=0)
    for _ in range(steps):
        env.step(np.zeros(env.num_envs, int))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"obs": np.zeros(2, np.float32)}, r"the observation has shape \(2,\), but its space says \(3,\)"),
        ({"reward": None}, "step returned reward=None, not a number"),
        ({"terminated": None}, "step returned terminated=None, not True or False"),
        ({"truncated": "no"}, "step returned truncated='no', not True or False"),
        ({"info": None}, "step returned a NoneType as info, not a dict"),
    ],
)
def test_answers_are_looked_at_after_the_first_steps_too(change, words):
    with pytest.raises(HostError, match=f"environment 0, step 6: .*{words}"):
        played(GymnasiumEnv(partial(World, **change), 2))


class Nested(World):
    observation_space = spaces.Dict({"x": spaces.Box(-1, 1, (3,), np.float32)})

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], {}

    def step(self, action):
        obs, *rest = super().step(action)
        return obs if isinstance(obs, dict) else {"x": obs}, *rest


@pytest.mark.parametrize(
    ("vectorization", "words"),
    [
        ("sync", r"environment 0, step 6: the observation\['x'\] has shape \(2,\)"),
        ("async", "environment 0: ValueError"),
    ],
)
def test_a_part_of_another_shape(vectorization, words):
    env = GymnasiumEnv(partial(Nested, obs={"x": np.zeros(2, np.float32)}), 1, vectorization=vectorization)
    with pytest.raises(HostError, match=words):
        played(env)


@pytest.mark.parametrize("usual", [{"reward": 1}, {"reward": np.float32(1)}, {"terminated": np.bool(False)}])
def test_what_is_usual_passes(usual):
    played(GymnasiumEnv(partial(World, **usual), 2))


class Quits(World):
    def step(self, action):
        raise SystemExit(2)


def test_an_environment_cannot_end_the_process():
    with pytest.raises(HostError, match="environment 0, step 1: step raised SystemExit: 2"):
        played(GymnasiumEnv(Quits))


class Spaceless(World):
    action_space = None


def test_an_environment_without_a_space():
    with pytest.raises(ValueError, match=r"Spaceless has no action_space. Set it to one of gymnasium.spaces"):
        GymnasiumEnv(Spaceless)


class Nothing(World):
    observation_space = spaces.Box(-1, 1, (0,), np.float32)


def test_an_empty_space_is_refused():
    with pytest.raises(ValueError, match=r"faults:Nothing: .* a Box of shape \(0,\), which has no numbers"):
        host.make("test_host_faults:Nothing")


def test_whole_numbers_are_the_nearest():
    box = spaces.Box(0, 5, (3,), np.int32)
    assert to_env(box, np.array([1.6, -3.0, 4.4])).tolist() == [2, 0, 4]


# Options and objects


class Sized(World):
    def __init__(self, size):
        super().__init__()
        self.size = size


def test_a_function_gets_its_options():
    assert GymnasiumEnv(Sized, 2, env_kwargs={"size": 3})._vector.envs[1].unwrapped.size == 3
    with pytest.raises(HostError, match="missing 1 required positional argument"):
        GymnasiumEnv(Sized)


def test_a_function_makes_one_environment_where_each_has_a_process():
    with pytest.raises(
        ValueError, match=r"The function made a SyncVectorEnv. Let it return one gymnasium.Env; a batch"
    ):
        GymnasiumEnv(lambda: SyncVectorEnv([World]), vectorization="async")


def test_a_function_may_make_a_batch():
    made = []

    def batch(size=3):
        made.append(SyncVectorEnv([World] * size))
        return made[-1]

    first = host.make(batch, 3)
    assert first._vector is made[0] and first.num_envs == 3
    assert host.make(batch, 8, training=False).num_envs == 3, "an evaluation takes what there is"
    assert host.make(batch, 2, env_kwargs={"size": 2}).num_envs == 2 and len(made) == 3
    first.close()
    assert made[0].closed, "nobody else has it"
    with pytest.raises(ValueError, match=r"makes 3 environments at once, not 4. Set n_envs=3, or leave it out"):
        host.make(batch, 4)


def test_a_function_is_called_once_for_each_environment():
    made = []
    env = host.make(lambda: made.append(World()) or made[-1], 2)
    assert [one.unwrapped for one in env._vector.envs] == made


def test_a_users_object_stays_open_and_is_free_again():
    vector = SyncVectorEnv([World] * 2)
    first = host.make(vector)
    assert first._vector is vector
    assert host.make(vector, training=False)._vector is not vector, "it is in use"
    first.close()
    assert not vector.closed
    assert host.make(vector, training=False)._vector is vector, "to be evaluated on"
    assert host.make(vector)._vector is vector, "an evaluation leaves it free"


# Masks


class Masked(World):
    """Actions 0 and 1 of 4 take turns."""

    action_space = spaces.Discrete(4)

    def mask(self):
        return np.array([self.t % 2 == 0, self.t % 2 == 1, False, False])

    def reset(self, *, seed=None, options=None):
        obs, _ = super().reset(seed=seed)
        return obs, {"action_mask": self.mask()}

    def step(self, action):
        obs, reward, terminated, truncated, _ = super().step(action)
        return obs, reward, terminated, truncated, {"action_mask": self.mask(), **self.change}


class Silent(Masked):
    def step(self, action):
        return World.step(self, action)


class Stuck(Masked):
    def mask(self):
        return np.zeros(4)


class Narrow(Masked):
    def mask(self):
        return np.ones(3)


class NarrowKey(World):
    action_space = spaces.Discrete(4)
    observation_space = spaces.Dict({"x": spaces.Box(-1, 1, (1,)), "action_mask": spaces.MultiBinary(3)})


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (Silent, "environment 0, step 1: reset gave an action_mask and step none"),
        (Stuck, "environment 0, step 0: the action_mask leaves no valid action"),
        (Narrow, r"environment 0, step 0: the action_mask has shape \(3,\), and the actions need \(4,\)"),
        (NarrowKey, r"the action_mask has shape \(3,\), and the actions need \(4,\)"),
    ],
)
def test_a_mask_that_helps_nobody_is_refused(env, words):
    with pytest.raises((HostError, ValueError), match=words):
        played(GymnasiumEnv(env, 2))


class Part(World):
    action_space = spaces.MultiDiscrete([2, 3])

    def action_masks(self):
        return np.array([True, False]), np.zeros(3, bool)


def test_every_part_of_an_action_has_a_valid_one():
    with pytest.raises(HostError, match="leaves no valid action"):
        GymnasiumEnv(Part, 2).reset()


class Masker(gymnasium.Wrapper):
    """As in MaskablePPO's ActionMasker: the method is the wrapper's."""

    def action_masks(self):
        return self.env.unwrapped.t % 2 == np.arange(2)


def masker():
    return Masker(World())


@pytest.mark.parametrize("vector", [None, SyncVectorEnv, partial(AsyncVectorEnv, context="forkserver")])
def test_masks_of_a_wrapper(vector):
    env = GymnasiumEnv(masker, 2) if vector is None else GymnasiumEnv(vector([masker] * 2))
    assert env.reset(seed=0).mask.tolist() == [[True, False]] * 2
    assert env.step(np.zeros(2, int)).obs.mask.tolist() == [[False, True]] * 2
    env.close()


# The command that checks


class Dies(World):
    def step(self, action):
        os._exit(3)


class Hangs(World):
    def step(self, action):
        time.sleep(60)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("Dies", [], r"wrong: .*the process of environment 0 died in step \(exit code 3\)"),
        ("Hangs", [], "wrong: .*environment 0 did not answer within 3 seconds in step. Look for what it waits for"),
        ("Sized", ["--env-kwargs", "size=3"], "fit for training"),
    ],
)
def test_what_is_checked_has_a_process_of_its_own(capsys, monkeypatch, name, options, words):
    monkeypatch.setattr("policygrad.envs.host.PATIENCE", 3.0)
    assert main(["check", f"test_host_faults:{name}", "--steps", "12", *options]) == (words != "fit for training")
    shown = capsys.readouterr().out
    assert re.search(words, shown), shown


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("Sized", ["--env-kwargs", "size=3"], "error: training begins"),
        ("Dies", ["--vectorization", "async"], r"error: .*died in step \(exit code 3\)"),
        ("Quits", [], "error: .*step raised SystemExit: 2"),
    ],
)
def test_training_looks_first_with_the_options_of_the_run(capsys, monkeypatch, name, options, words):
    def begin(*args, **how):
        raise RuntimeError("training begins")

    monkeypatch.setattr("policygrad.run.api.begin", begin)
    assert main(["train", f"test_host_faults:{name}", *options]) > 0
    assert re.search(words, capsys.readouterr().err)
