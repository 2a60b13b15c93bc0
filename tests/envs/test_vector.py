"""Whichever way a vector environment resets, HostStep tells the truth: shown by environments that record."""

from functools import partial

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from recorder import ENDS, LENGTHS, Masked, Recorder

from policygrad.envs import GymnasiumEnv, HostEnv, HostStep
from policygrad.types import MaskedObs

MODES = list(AutoresetMode)


def flat(obs):
    """(episode, step, action), after a look at the nested parts."""
    if not isinstance(obs, dict):
        return obs
    (shown, t), b = obs["a"], obs["b"]
    assert t.tolist() == shown[:, 1].tolist()  # Discrete(9, start=5) counts from 0
    assert b[:, 0].tolist() == shown[:, 0].tolist()
    return shown


def expect_truth(env, mode, n_steps=24):
    """Act at random, and hold every row against what must have happened."""
    rng = np.random.default_rng(0)
    now = [[first, 0] for first in range(env.num_envs)]
    over = np.zeros(env.num_envs, bool)
    obs = env.reset(seed=0)
    assert flat(obs).tolist() == [[episode, 0, -1] for episode, _ in now]
    for _ in range(n_steps):
        action = rng.integers(0, 5, env.num_envs)
        row = env.step(action)
        ended = row.terminated | row.truncated
        for i, (episode, t) in enumerate(now):
            shown, successor = flat(row.obs)[i].tolist(), flat(row.successor)[i].tolist()
            if mode is AutoresetMode.NEXT_STEP and over[i]:
                now[i] = [episode + 1, 0]
                assert (row.valid[i], row.reward[i], ended[i], row.over[i]) == (False, 0, False, False)
                assert shown == successor == [episode + 1, 0, -1]
                continue
            last = t + 1 == LENGTHS[episode % 4]
            assert successor == [episode, t + 1, action[i] + 2]
            assert (row.valid[i], row.reward[i], row.over[i]) == (True, t + 1, last)
            assert (row.terminated[i], row.truncated[i]) == (ENDS[episode % 4] if last else (False, False))
            begins = last and mode is not AutoresetMode.NEXT_STEP
            assert shown == ([episode + 1, 0, -1] if begins else successor)
            now[i] = [episode + 1, 0] if begins else [episode, t + 1]
        over = ended
    env.close()


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_the_truth_in_one_process(mode, nested):
    makers = [partial(Recorder, first, nested) for first in range(4)]
    expect_truth(GymnasiumEnv(SyncVectorEnv(makers, autoreset_mode=mode)), mode)


@pytest.mark.parametrize("mode", MODES)
def test_the_truth_in_processes(mode):
    makers = [partial(Recorder, first, True) for first in range(2)]
    expect_truth(GymnasiumEnv(AsyncVectorEnv(makers, autoreset_mode=mode, context="forkserver")), mode, n_steps=12)


def test_the_truth_of_environments_that_we_put_side_by_side():
    env = GymnasiumEnv(Recorder, 1)
    assert isinstance(env, HostEnv)
    expect_truth(env, AutoresetMode.SAME_STEP)


@pytest.mark.parametrize("batched", [False, True])
def test_final_observations_come_as_objects_or_as_a_batch(batched):
    """Gymnasium gives an array of objects with a mask, others give a batch and no mask."""

    class Vector(SyncVectorEnv):
        def step(self, actions):
            *rest, info = super().step(actions)
            if batched and "final_obs" in info:
                rows = info.pop("_final_obs")
                whole = [final if there else np.full(3, 77.0) for final, there in zip(info["final_obs"], rows)]
                info["final_obs"] = np.stack(whole)
            return *rest, info

    makers = [partial(Recorder, first) for first in range(4)]
    expect_truth(GymnasiumEnv(Vector(makers, autoreset_mode="SameStep")), AutoresetMode.SAME_STEP)


def test_a_lost_final_observation_is_refused():
    class Vector(SyncVectorEnv):
        def step(self, actions):
            return *super().step(actions)[:4], {}

    env = GymnasiumEnv(Vector([Recorder], autoreset_mode="SameStep"))
    env.reset()
    with pytest.raises(RuntimeError, match=r"gives no info\['final_obs'\]"):
        for _ in range(3):
            env.step(np.zeros(1, int))


def test_over_is_every_end_of_a_valid_row_if_nothing_else_is_said():
    yes, no = np.array([True, True]), np.array([False, False])
    assert HostStep(0, 0, 0, yes, no, np.array([True, False])).over.tolist() == [True, False]
    assert HostStep(0, 0, 0, yes, no, yes, no).over.tolist() == [False, False]
    step = HostStep(0, 0, 0, yes, no, yes)._replace(over=no)
    assert isinstance(step, HostStep)
    assert step.over.tolist() == [False, False]


def test_what_is_returned_is_not_reused():
    env = GymnasiumEnv(SyncVectorEnv([Recorder], copy=False, autoreset_mode="SameStep"))
    first = env.reset()
    row = env.step(np.zeros(1, int))
    env.step(np.zeros(1, int))
    assert (first[0, 1], row.obs[0, 1], row.successor[0, 1]) == (0, 1, 1)


# Masks


@pytest.mark.parametrize("where", ["info", "method", "key"])
@pytest.mark.parametrize("mode", [None, *MODES])
def test_masks_from_everywhere(where, mode):
    maker = partial(Masked, where)
    env = GymnasiumEnv(maker, 2) if mode is None else GymnasiumEnv(SyncVectorEnv([maker] * 2, autoreset_mode=mode))
    assert "action_mask" not in getattr(env.observation_space, "spaces", {})
    obs = env.reset(seed=0)
    for t in range(5):
        assert isinstance(obs, MaskedObs)
        now = (obs.obs["t"] if where == "key" else obs.obs)[:, 0].astype(int)
        assert obs.mask.dtype == bool
        assert obs.mask.tolist() == [(np.arange(3) != shown).tolist() for shown in now]
        row = env.step(np.full(2, 1))
        assert jax.tree.structure(row.successor) == jax.tree.structure(obs)
        if row.truncated.any() and (where != "method" or mode is None):
            assert row.successor.mask.tolist() == [[True, True, False]] * 2, t
        obs = row.obs
    env.close()


def test_gymnasiums_own_masks():
    env = GymnasiumEnv("Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3", 3)
    assert env.reset(seed=0).mask.shape == (3, 6)
    assert env.step(np.zeros(3, int)).obs.mask.any()


def test_masks_of_parts_are_joined():
    class Parts(Masked):
        def __init__(self):
            super().__init__("info")
            self.action_space = spaces.MultiDiscrete([2, 3])

        def shown(self):
            return np.zeros(1, np.float32), {"action_mask": (np.array([0, 1]), np.array([1, 1, 0]))}

    env = GymnasiumEnv(Parts, 2)
    assert env.reset().mask.tolist() == [[False, True, True, True, False]] * 2


def test_masks_for_other_actions_are_refused():
    class Continuous(Masked):
        def __init__(self):
            super().__init__("info")
            self.action_space = spaces.Box(-1.0, 1.0, (1,))

    with pytest.raises(ValueError, match="gives action masks for a Box"):
        GymnasiumEnv(Continuous).reset()


def test_masks_that_come_late_are_refused():
    class Late(Masked):
        def reset(self, *, seed=None, options=None):
            return super().reset()[0], {}

    env = GymnasiumEnv(partial(Late, "info"))
    env.reset()
    with pytest.raises(RuntimeError, match="in step but not in reset"):
        env.step(np.zeros(1, int))


# What is refused


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", "environment 1, step 2: step raised ZeroDivisionError: division by zero. Fix its step"),
        ("nan reward", "environment 1, step 2: a reward is not finite"),
        ("nan observation", "environment 1, step 2: an observation is not finite"),
        ("shape", r"environment 1, step 2: step is wrong: the observation has shape \(2,\), but its space says \(3,\)"),
        ("dtype", "environment 1, step 2: .*dtype complex"),
        ("reward shape", r"environment 1, step 2: step returned a reward of shape \(2,\)"),
        ("four", r"environment 1, step 2: step returned 4 values, not \(obs, reward"),
    ],
)
def test_a_broken_environment_is_named(how, message):
    env = GymnasiumEnv(maker_of_broken(how), 2)
    env.reset(seed=0)
    env.step(np.zeros(2, int))
    with pytest.raises(RuntimeError, match=message) as caught:
        env.step(np.zeros(2, int))
    assert "\n" not in str(caught.value)


def maker_of_broken(how):
    """Two environments, of which the second breaks."""
    made = iter([None, 2])
    return lambda: Recorder(break_at=next(made), how=how)


def test_vector_environments_are_looked_at_too():
    class Vector(SyncVectorEnv):
        def step(self, actions):
            obs, *rest = super().step(actions)
            return obs[:, :2], *rest

    env = GymnasiumEnv(Vector([Recorder] * 2))
    env.reset()
    with pytest.raises(RuntimeError, match=r"step 1: the observation has shape \(2, 2\), but its space says \(2, 3\)"):
        env.step(np.zeros(2, int))
