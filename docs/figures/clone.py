"""Return against the number of demonstrations: a clone, one whose expert was asked as well, one that went on by policy
gradient, and policy gradient alone."""

import tempfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from style import BLUE, GREEN, GREY, ORANGE, RED, canvas, label, save

import policygrad as pg
from policygrad.run.statistics import bootstrap_interval
from policygrad.storage.datasets import select

ENV, NUMBERS, SEEDS = "MountainCar-v0", (2, 4, 8, 16), range(300, 305)
ALGO, BUDGET = "reinforce-mean", 50_000
HOW = {"out": None, "tensorboard": False}


class Pump(eqx.Module):
    """The demonstrator: push to where the car is rolling, nine times out of ten."""

    def initial(self):
        return None

    def __call__(self, input, carry):
        rolling = jnp.where(input.obs[1] < 0, 0, 2)
        return pg.Output(pg.Categorical(3.0 * jax.nn.one_hot(rolling, 3)), None, jnp.zeros(())), None


env = pg.make(ENV)
expert = pg.Policy(Pump(), env.observation_space, env.action_space)
shown = pg.record(expert, ENV, episodes=64, seed=2)


def played(policy):
    """Mean return of 100 episodes with drawn actions."""
    return pg.evaluate(policy, ENV, episodes=100, deterministic=False).mean


level = played(expert)
train = {"total_timesteps": BUDGET, "eval_every": 0} | HOW
alone = np.array([played(policy) for policy in pg.train(ENV, ALGO, seed=SEEDS[0], seeds=len(SEEDS), **train).policies])
print(f"demonstrator {level:.1f}, alone {alone.mean():.1f}", flush=True)
found = {name: np.zeros((len(SEEDS), len(NUMBERS))) for name in ("clone", "asked", "tuned")}
with tempfile.TemporaryDirectory() as folder:
    for i, n in enumerate(NUMBERS):
        for j, seed in enumerate(SEEDS):
            some = select(shown, np.random.default_rng(seed).choice(shown.episodes, n, replace=False))
            path = Path(folder) / f"{n}-{seed}"
            clone = pg.clone(some, seed=seed, normalize_obs=True, path=path, tensorboard=False)
            ask = {"dagger": 1, "expert": expert, "episodes": n, "beta": 0.0}
            asked = pg.clone(some, seed=seed, normalize_obs=True, **ask, **HOW)
            tuned = pg.train(ENV, ALGO, init_from=path, seed=seed, **train)
            for name, run in (("clone", clone), ("asked", asked), ("tuned", tuned)):
                found[name][j, i] = played(run.policy)
        print(n, {name: x[:, i].round(1).tolist() for name, x in found.items()}, flush=True)

figure, (axes,) = canvas(1, height=3.9)
steps = f"{BUDGET:,} steps of {ALGO}"
for height, color, words in ((level, GREY, "the demonstrator"), (alone.mean(), RED, f"{steps} alone")):
    axes.axhline(height, color=color, linewidth=1.2, linestyle="--")
    axes.annotate(
        words, (NUMBERS[-1], height), (0, 4), textcoords="offset points", fontsize=8.5, color=color, ha="right"
    )
looks = {
    "clone": (BLUE, "clone"),
    "asked": (GREEN, "DAgger: as many episodes again"),
    "tuned": (ORANGE, f"clone, then {steps}"),
}
for name, (color, words) in looks.items():
    low, high = bootstrap_interval(found[name], n=2000)
    axes.fill_between(NUMBERS, low, high, color=color, alpha=0.14, linewidth=0)
    axes.plot(NUMBERS, found[name].mean(axis=0), "o-", color=color, linewidth=2, markersize=4, label=words)
axes.set_xscale("log", base=2)
axes.set_xticks(NUMBERS, [str(n) for n in NUMBERS])
axes.legend(frameon=False, fontsize=8.5, loc="center right")
label(axes, f"What demonstrations are worth on {ENV}", "demonstrated episodes", "mean return, actions drawn")
seeds = f"seeds {SEEDS[0]} to {SEEDS[-1]}"
save(figure, "clone", f"{seeds}: mean and 95 % bootstrap interval over seeds, 100 episodes each")
print({name: x.mean(axis=0).round(1).tolist() for name, x in found.items()})
