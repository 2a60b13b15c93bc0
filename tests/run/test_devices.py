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
    one_device_per_core()
    assert jax.config.jax_num_cpu_devices == before and len(jax.devices()) == before


def learned(fit):
    leaves = jax.tree.leaves((fit.best.params, fit.best.reward, fit.state.learner.params))
    return [np.asarray(leaf, float).tolist() for leaf in leaves]


ELSEWHERE = """
import json, sys, jax
from policygrad.envs import registry
from policygrad.run import train as loop
from policygrad.run.program import make_program
from policygrad.run.recipes import make_recipe
sys.path.insert(0, sys.argv[2])
from test_devices import learned
groups, options = json.loads(sys.argv[1])
assert len(jax.devices()) == 1
recipe = make_recipe("a2c", "CartPole-v1", **options)
fit = loop.fit(loop.start(make_program(recipe, registry.make("CartPole-v1"), groups=groups)))
print(json.dumps(learned(fit)))
"""


def test_a_group_of_seeds_computes_the_same_wherever_it_is():
    """Two devices with two seeds each, and one device for two groups in turn: the same bits."""
    assert len(jax.devices()) == 2
    run = pg.train(**SMALL)
    assert run.program.groups == 2 and len(run.state.env_steps.sharding.device_set) == 2
    options = {name: value for name, value in SMALL.items() if name not in ("env", "algo", "out")}
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, "-c", ELSEWHERE, json.dumps([2, options]), os.path.dirname(__file__)]
    child = subprocess.run(command, env=environment, capture_output=True)
    assert child.returncode == 0, child.stderr.decode()
    assert learned(run._fit) == json.loads(child.stdout.splitlines()[-1])
    assert run.policies[3].predict(np.zeros(4, np.float32))[0] in (0, 1)


def test_a_resumed_run_keeps_its_groups(tmp_path):
    pg.train(**SMALL, path=tmp_path / "run", tensorboard=False)
    assert pg.load(tmp_path / "run").program.groups == 2
