"""What can be put side by side, and how: ids, functions, objects, wrappers; one process or many."""

import subprocess
import sys
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TransformReward
from recorder import Recorder
from test_vector import expect_truth

from policygrad.envs import GymnasiumEnv, HostError, host
from policygrad.envs.stateful import did_you_mean


def fast(env):
    return not isinstance(env._vector, SyncVectorEnv)


def test_an_id_gets_its_fast_version_unless_it_could_not_do_what_is_asked():
    assert fast(host.make("gym:CartPole-v1", 2))
    assert not fast(host.make("gym:CartPole-v1", 2, vectorization="sync"))
    assert not fast(host.make("gym:CartPole-v1", 2, wrappers=["gymnasium.wrappers:FlattenObservation"]))
    assert not fast(host.make("gym:Acrobot-v1", 2))


@pytest.mark.parametrize("vectorization", ["sync", "vector"])
def test_both_ways_see_the_same_episodes(vectorization):
    """Always to the right, CartPole falls after 8 to 10 steps: the valid rows say so in both modes."""
    env = GymnasiumEnv("CartPole-v1", 4, vectorization=vectorization)
    env.reset(seed=1)
    rows = [env.step(np.ones(4, int)) for _ in range(60)]
    valid, over = np.array([row.valid for row in rows]), np.array([row.over for row in rows])
    assert valid.all() == (vectorization == "sync")
    assert 8 <= valid.sum() / over.sum() <= 12
    assert np.all(np.abs(np.array([row.successor for row in rows])[over][:, 2]) > 0.2)
    env.close()


def test_a_step_costs_the_same_calls_for_any_number():
    """Where nothing ends: Python calls of 2 and of 64 environments, counted."""

    def calls(n):
        env, count = host.make("gym:CartPole-v1", n), 0
        env.reset(seed=0)
        for t in range(7):
            env.step(np.full(n, t % 2))

        def counted(frame, event, _):
            nonlocal count
            count += event == "call"

        sys.setprofile(counted)
        row = env.step(np.zeros(n, int))
        sys.setprofile(None)
        assert not row.over.any()
        return count

    assert calls(2) == calls(64)


@pytest.mark.parametrize("vectorization", ["sync", "vector"])
def test_time_limits_pass_through(vectorization):
    env = host.make("gym:CartPole-v1", 2, max_episode_steps=2, vectorization=vectorization)
    assert env.time_limit == 2
    env.reset(seed=0)
    env.step(np.zeros(2, int))
    row = env.step(np.zeros(2, int))
    assert row.truncated.all()
    assert not row.terminated.any()
    env.close()


def test_a_function_gets_a_time_limit_and_wrappers_innermost_first():
    halve, shift = partial(TransformReward, func=lambda r: r / 2), partial(TransformReward, func=lambda r: r + 1)
    env = host.make(Recorder, 2, max_episode_steps=1, wrappers=(halve, shift))
    env.reset()
    row = env.step(np.zeros(2, int))
    assert row.truncated.all()
    assert row.reward.tolist() == [1.5, 1.5]


def test_wrappers_by_name():
    env = host.make(partial(Recorder, nested=True), 2, wrappers=["gymnasium.wrappers:FlattenObservation"])
    assert env.reset().shape == (2, 13)
    with pytest.raises(ValueError, match=r"ClipReward could not be applied: InvalidBound.*nothing but the environment"):
        host.make(Recorder, wrappers=["gymnasium.wrappers:ClipReward"])
    with pytest.raises(ValueError, match=r"gymnasium.wrappers has no 'ClipRewards'. Did you mean .*:ClipReward\?"):
        host.make(Recorder, wrappers=["gymnasium.wrappers:ClipRewards"])


# Objects


def test_an_environment_is_used_itself_and_then_copied():
    env = Recorder()
    one = host.make(env)
    one.reset()
    assert env.episode == 0
    another = host.make(env)  # a deep copy, for the first is in use
    another.reset()
    assert env.episode == 0
    several = GymnasiumEnv(Recorder(first=4), 3)
    assert several.reset()[:, 0].tolist() == [4, 4, 4]
    clone = one.clone(2)
    assert clone.num_envs == 2
    clone.reset()
    assert env.episode == 0


def test_an_environment_with_a_spec_is_made_anew():
    env = gymnasium.make("CartPole-v1", max_episode_steps=3)
    env.unwrapped.lock = (x for x in ())  # cannot be copied
    many = host.make(env, 2)
    many.reset(seed=0)
    assert [many.step(np.zeros(2, int)).truncated.all() for _ in range(3)] == [False, False, True]
    assert many.time_limit == 3


def test_an_environment_that_cannot_be_copied_asks_for_a_function():
    env = Recorder()
    env.lock = (x for x in ())
    with pytest.raises(ValueError, match=r"Give a function that makes one: lambda: Recorder\(...\)\."):
        host.make(env, 2)


def test_a_vector_environment_is_used_itself_and_then_copied():
    vector = SyncVectorEnv([partial(Recorder, 0), partial(Recorder, 1)], autoreset_mode="Disabled")
    env = host.make(vector)
    assert env._vector is vector
    assert host.make(vector)._vector is not vector
    expect_truth(host.make(vector, training=False), AutoresetMode.DISABLED)
    assert host.make(vector, 3).num_envs == 3
    fast = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point", max_episode_steps=7)
    clone = host.make(fast).clone(5)
    assert (clone.num_envs, clone._vector.max_episode_steps) == (5, 7)
    with pytest.raises(ValueError, match="made already"):
        GymnasiumEnv(vector, wrappers=[TransformReward])
    with pytest.raises(ValueError, match="has 2 environments, not 3"):
        GymnasiumEnv(vector, 3)


def test_a_clone_shares_nothing():
    env = GymnasiumEnv("CartPole-v1", 2, vectorization="sync")
    other = env.clone(3)
    assert (env.num_envs, other.num_envs, other.id) == (2, 3, "gym:CartPole-v1")
    first = env.reset(seed=5)
    other.reset(seed=6)
    other.step(np.ones(3, int))
    env.close()
    assert np.array_equal(first, GymnasiumEnv("CartPole-v1", 2, vectorization="sync").reset(seed=5))
    other.step(np.ones(3, int))
    other.close()


def test_the_seed_is_that_of_the_first_reset():
    env = host.make("gym:Acrobot-v1", 2, seed=3)
    first = env.reset()
    assert np.array_equal(first, host.make("gym:Acrobot-v1", 2).reset(seed=3))
    assert not np.array_equal(first, env.reset())


def test_actions_are_clipped_to_the_bounds():
    env = host.make("gym:Pendulum-v1", 2)
    clipped = [env.reset(seed=0), env.step(np.full((2, 1), 2.0)).obs]
    assert np.array_equal(clipped[0], env.reset(seed=0))
    assert np.array_equal(clipped[1], env.step(np.full((2, 1), 99.0)).obs)


def test_pictures_on_request():
    pytest.importorskip("pygame")
    env = host.make("gym:CartPole-v1", vectorization="sync", render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render()[0].shape == (400, 600, 3)
    assert host.make("gym:CartPole-v1").render() is None
    env.close()


def test_a_single_environment_for_drawing_and_checking():
    flatten = "gymnasium.wrappers:FlattenObservation"
    env = host.make_single("gym:CartPole-v1", env_kwargs={"max_episode_steps": 1}, wrappers=[flatten])
    env.reset(seed=0)
    assert env.step(0)[3]
    assert type(env.env).__name__ == "FlattenObservation"


# Processes


def test_the_truth_of_our_own_processes():
    expect_truth(host.make(Recorder, 1, vectorization="async"), AutoresetMode.SAME_STEP, n_steps=8)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", "environment 0, step 1: step raised ZeroDivisionError: division by zero"),
        ("die", r"the process of environment 0 died in step \(exit code 3\)"),
        ("hang", "environment 0 did not answer within 0.5 seconds in step"),
    ],
)
def test_a_process_that_fails_is_named_and_ends_all(how, message):
    env = GymnasiumEnv(partial(Recorder, break_at=1, how=how), 1, vectorization="async")
    env.reset(seed=0)
    env._vector.timeout = 0.5 if how == "hang" else 20.0
    with pytest.raises(HostError, match=message) as caught:
        env.step(np.zeros(1, int))
    assert "\n" not in str(caught.value)
    assert not any(process.is_alive() for process in env._vector.processes)
    env.close()


def test_workers_import_no_jax():
    code = "import sys, policygrad.envs.worker; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# Refusals


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (("CartPol-v1",), {}, "knows no environment 'CartPol-v1'. Did you mean .*CartPole-v1"),
        (("CartPole-v1", 0), {}, "num_envs is 0"),
        (("CartPole-v1",), {"vectorization": "fast"}, "vectorization is 'fast'; choose one of auto, sync, async"),
        (("Acrobot-v1",), {"vectorization": "vector"}, "no vector version of its own"),
        (("CartPole-v1",), {"vectorization": "sync", "gravity": 3}, r"does not take these options \(gravity\)"),
        (("CartPole-v1",), {"gravity": 3}, r"does not take these options \(gravity\)"),
        ((Recorder(),), {"render_mode": "rgb_array"}, "is made already and takes no options"),
        ((lambda: 7,), {}, "The function made a int. Let it return one gymnasium.Env"),
        (("no_such_module:Thing-v0",), {}, "no module 'no_such_module'"),
    ],
)
def test_wrong_requests_are_refused(args, options, message):
    with pytest.raises(ValueError, match=message):
        GymnasiumEnv(*args, **options)


def test_spaces_without_arrays_are_refused():
    class Words(Recorder):
        def __init__(self):
            super().__init__()
            self.observation_space = gymnasium.spaces.Text(5)

    with pytest.raises(ValueError, match="its observation space holds a Text"):
        GymnasiumEnv(Words)


def test_a_function_that_fails():
    with pytest.raises(HostError, match="could not be made: ZeroDivisionError"):
        GymnasiumEnv(lambda: 1 / 0)


def test_nothing_is_near_to_nonsense():
    assert did_you_mean("qqqqqq", ["CartPole-v1"]) == ""
    assert did_you_mean("cartpole-V1", ["CartPole-v1"]) == " Did you mean CartPole-v1?"
