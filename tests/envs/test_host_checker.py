"""What is wrong with an environment on the host is said in words."""

from functools import partial

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from recorder import Masked, Recorder

from policygrad.cli.main import main
from policygrad.envs import EnvError, check_env, host


class Good(Recorder):
    """A recorder whose episodes are told apart by nothing: gymnasium's checker wants the same for the same seed."""

    def reset(self, *, seed=None, options=None):
        self.episode = -1
        return super().reset(seed=seed)


class Bad(Good):
    def step(self, action):
        return *super().step(action)[:1], np.nan, False, False, {}


class Restless(Good):
    def show(self, action):
        return np.random.default_rng().random(3).astype(np.float32)


@pytest.mark.parametrize("nested", [False, True])
def test_good_environments_pass(nested):
    assert check_env(partial(Good, nested=nested), steps=30) == []
    assert check_env(SyncVectorEnv([Good] * 2), steps=30) == []
    assert check_env(Good(), steps=30) == []


@pytest.mark.parametrize("where", ["info", "method", "key"])
def test_only_valid_actions_are_tried(where):
    class Strict(Masked):
        def step(self, action):
            assert self.mask()[action - 1]
            return super().step(action)

    check_env(host.make(partial(Strict, where), 2), steps=30)


def test_masks_of_several_parts():
    space, mask = spaces.MultiDiscrete([2, 3]), np.array([[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]], bool)
    from policygrad.envs.host_checker import valid
    from policygrad.types import MaskedObs

    rng = np.random.default_rng(0)
    assert valid(space, None, MaskedObs(None, mask), rng).tolist() == [[1, 0], [0, 2]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"how": "raise", "break_at": 3}, "step 3: step raised ZeroDivisionError"),
        ({"how": "nan reward", "break_at": 3}, "step 3: a reward is not finite"),
        ({"how": "shape", "break_at": 1}, "the observation has shape"),
    ],
)
def test_what_breaks_training_is_an_error(change, message):
    with pytest.raises(EnvError, match=message):
        check_env(partial(Good, **change), steps=30)


def test_gymnasiums_checker_is_heard():
    class Seedless(Good):
        def reset(self, *, seed=None, options=None):
            self.episode, self.t = 0, 0
            return self.show(-1), {}

    with pytest.raises(EnvError, match="Gymnasium's checker: "):
        check_env(Seedless, steps=30)


def test_notes():
    notes = check_env(host.make(Restless), steps=30)
    assert any("two different observations for one seed" in note for note in notes)

    class Wide(Good):
        def show(self, action):
            return super().show(action) + 2000

    notes = check_env(host.make(Wide), steps=2)
    assert [note.split(": ")[1].split(".")[0] for note in notes] == [
        "observations left observation_space",
        "no episode ended within 2 random steps",
    ]


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("test_host_checker:Good", 0, "fit for training (50 random steps)"),
        ("test_host_checker:Bad", 1, "wrong: test_host_checker:Bad, environment 0, step 1: a reward is not finite"),
        ("probe:action", 0, "fit for training"),
        ("FrozenLake-v1", 0, "FrozenLake-v1: Gymnasium's own environment, stepped on the host: fit for training"),
    ],
)
def test_the_command(capsys, name, code, words):
    assert main(["check", name, "--steps", "50"]) == code
    assert words in capsys.readouterr().out
