"""Threads and devices: what a run asks of XLA, and that it changes no number."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import policygrad as pg
from policygrad.run.devices import is_small, one_device_per_core, shares, spare_threads, spare_threads_of
from policygrad.run.recipes import make_recipe

SMALL = dict(env="CartPole-v1", algo="a2c", total_timesteps=400, net=(8,), seeds=4, seed=5, eval_every=200)
SMALL |= dict(eval_episodes=2, max_episode_steps=20, out=None)


def test_a_small_window_gets_one_thread(monkeypatch, tmp_path):
    def threads(algo, **changes):
        monkeypatch.setenv("PJRT_NPROC", "")
        monkeypatch.delenv("PJRT_NPROC")
        spare_threads(make_recipe(algo, "CartPole-v1", **changes))
        return os.environ.get("PJRT_NPROC")

    assert threads("a2c") == "1" and threads("a2c", n_envs=2048) is None and threads("reinforce") is None
    monkeypatch.setenv("PJRT_NPROC", "2")
    spare_threads_of(str(tmp_path / "nothing"))
    spare_threads(make_recipe("a2c", "CartPole-v1"))
    assert os.environ["PJRT_NPROC"] == "2"
    assert not is_small(make_recipe("a2c", "CartPole-v1", net=(256, 256)))


@pytest.mark.parametrize("seeds,devices,share", [(8, 2, 2), (8, 3, 2), (9, 8, 3), (7, 2, 1), (1, 4, 1), (2, 1, 1)])
def test_equal_shares(seeds, devices, share):
    assert shares(seeds, devices) == share


def test_devices_that_are_there_stay():
    jax.devices()
    before = jax.config.jax_num_cpu_devices
    one_device_per_core(make_recipe("a2c", "CartPole-v1", seeds=64))
    assert jax.config.jax_num_cpu_devices == before and len(jax.devices()) == before


def learned(run):
    return [np.asarray(leaf, float).tolist() for leaf in jax.tree.leaves(run._fit.best.params)]


def test_shared_out_seeds_learn_what_they_learn_on_one_device():
    """Two devices with two seeds each, against one device with all four in another process."""
    assert len(jax.devices()) == 2
    run = pg.train(**SMALL)
    assert len(run._fit.state.env_steps.sharding.device_set) == 2
    code = """
import json, sys, jax, policygrad as pg
run = pg.train(**json.loads(sys.argv[1]))
assert len(jax.devices()) == 1
import numpy as np
leaves = [np.asarray(leaf, float).tolist() for leaf in jax.tree.leaves(run._fit.best.params)]
print(json.dumps([leaves, run._fit.env_steps.tolist(), run._fit.best.reward.tolist()]))
"""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    child = subprocess.run([sys.executable, "-c", code, json.dumps(SMALL)], env=environment, capture_output=True)
    assert child.returncode == 0, child.stderr.decode()
    leaves, steps, reward = json.loads(child.stdout.splitlines()[-1])
    assert steps == run._fit.env_steps.tolist() and reward == run._fit.best.reward.tolist()
    for ours, theirs in zip(learned(run), leaves, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert run.policies[3].predict(np.zeros(4, np.float32))[0] in (0, 1)
