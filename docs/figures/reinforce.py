"""REINFORCE is unbiased: the error of an average of n estimates falls as σ/√n, for ever. A bias stops it."""

import jax
import jax.numpy as jnp
import numpy as np
from style import BLUE, DASHED, FAINT, GREY, INK, RED, canvas, label, save
from worlds import norm, policy

from policygrad.collect import episode_collector
from policygrad.envs import autoreset
from policygrad.envs.tabular import random_mdp
from policygrad.ladder import Psi
from policygrad.learn import gradient_samples, steps_from
from policygrad.measure import gradient, moments

GAMMA, N, REPEATS = 0.8, 16384, 32
mdp = random_mdp(3, 3, 2, branching=1, n_rewards=1, horizon=6)
model = policy(mdp)
truth = gradient(mdp, model, GAMMA)
RUNGS = {"REINFORCE": Psi("total_return", gamma=GAMMA), "a biased estimate": Psi("reward_to_go", gamma=GAMMA)}


@jax.jit
def errors(key: jax.Array) -> dict[str, jax.Array]:
    """``[N]``: ‖mean of the first n estimates − ∇J‖, from N sampled episodes."""
    collector = episode_collector(autoreset(mdp, mdp.horizon), N)
    trajectory = collector.collect(model, collector.init(model, key), key)[1]

    def running(psi: Psi) -> jax.Array:
        samples = gradient_samples(model, trajectory, psi(steps_from(model, trajectory, psi)))
        means = jax.tree.map(
            lambda x: jnp.cumsum(x, 0) / jnp.arange(1, N + 1).reshape(-1, *[1] * (x.ndim - 1)), samples
        )
        return jax.vmap(lambda mean: norm(jax.tree.map(jnp.subtract, mean, truth)))(means)

    return {name: running(psi) for name, psi in RUNGS.items()}


found = [jax.tree.map(np.asarray, errors(jax.random.key(seed))) for seed in range(REPEATS)]
n = np.unique(np.geomspace(1, N, 200).astype(int))
figure, (axes,) = canvas()
for (name, psi), color in zip(RUNGS.items(), (BLUE, RED)):
    runs = np.stack([run[name][n - 1] for run in found])
    exact = moments(mdp, model, psi, reference=truth)
    expected = np.sqrt(float(norm(exact.bias)) ** 2 + float(exact.variance) / n)
    if name == "REINFORCE":
        axes.plot(n, runs.T, color=FAINT, linewidth=0.5)
    axes.plot(n, np.sqrt((runs**2).mean(0)), color=color, linewidth=2)
    axes.plot(n, expected, color=INK, linestyle=DASHED, linewidth=0.9)
    words = f"{name}\nbias {float(norm(exact.bias)):.1g}"
    axes.text(n[-1] * 1.15, expected[-1], words, color=color, fontsize=9, va="center")
axes.plot([], [], color=GREY, label=f"root mean square of {REPEATS} repetitions, sampled")
root = r"$\sqrt{\mathrm{bias}^2 + \mathrm{variance}/n}$, exact"
axes.plot([], [], color=INK, linestyle=DASHED, linewidth=0.9, label=root)
axes.legend(frameon=False, fontsize=8.5, loc="lower left", labelcolor=INK)
axes.set(xscale="log", yscale="log", xlim=(1, N))
label(axes, "Error of the average of n trajectories' estimates", "trajectories n", "‖average − ∇J‖")
figure.subplots_adjust(right=0.8)
save(figure, "reinforce", f"random_mdp(3), 6 steps, γ = {GAMMA}; seeds 0–{REPEATS - 1}, {N} episodes each")
