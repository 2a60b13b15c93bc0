"""The 19-state random walk of Sutton and Barto (2018): their figures 7.2, 12.3 and 12.6 once more."""

import json
from functools import partial

import numpy as np
from matplotlib import colormaps
from style import GREY, canvas, label, save

from policygrad.envs.tabular import random_walk
from policygrad.measure.dynamic import n_step_td, offline_lambda_return, policy_evaluation, sample_episodes, td_lambda

SEED, RUNS, EPISODES = 0, 100, 10
STEP_SIZES = np.concatenate([np.linspace(0, 0.1, 9), np.linspace(0.15, 1, 18)])
NS, LAMBDAS = (1, 2, 4, 8, 16, 32, 64), (0, 0.4, 0.8, 0.9, 0.95, 0.975, 0.99, 1)

mdp, rng = random_walk(), np.random.default_rng(SEED)
uniform = np.full((mdp.n_states, 2), 0.5)
truth = policy_evaluation(mdp, uniform, 1.0)
walks = [sample_episodes(mdp, uniform, RUNS, rng) for _ in range(EPISODES)]


def error(update):
    """RMS error of V over the 19 states, averaged over the first 10 episodes and all runs, for each step size."""
    value, errors = np.zeros((len(STEP_SIZES), RUNS, mdp.n_states)), []
    with np.errstate(over="ignore", invalid="ignore"):
        for walk in walks:
            value = update(value, walk)
            errors.append(np.sqrt(np.mean((value - truth)[..., 1:-1] ** 2, axis=-1)))
    return np.nan_to_num(np.mean(errors, axis=(0, 2)), nan=np.inf)


PANELS = {
    "n-step TD": ("n", {n: partial(n_step_td, n=n, step_size=STEP_SIZES, gamma=1.0) for n in NS}),
    "off-line λ-return": (
        "λ",
        {lam: partial(offline_lambda_return, lam=lam, step_size=STEP_SIZES, gamma=1.0) for lam in LAMBDAS},
    ),
    "TD(λ), online": ("λ", {lam: partial(td_lambda, lam=lam, step_size=STEP_SIZES, gamma=1.0) for lam in LAMBDAS}),
}
figure, panels = canvas(3, width=11.0, height=3.9, sharey=True)
for axes, (title, (symbol, updates)) in zip(panels, PANELS.items()):
    least = {}
    for (number, update), shade in zip(updates.items(), np.linspace(0.08, 0.92, len(updates))):
        errors = error(update)
        least[number] = (float(errors.min()), float(STEP_SIZES[errors.argmin()]))
        axes.plot(
            STEP_SIZES, np.minimum(errors, 2), color=colormaps["viridis"](shade), linewidth=1.6, label=f"{number:g}"
        )
    best = min(least, key=least.get)
    axes.plot(*least[best][::-1], "o", color="black", markersize=4)
    axes.annotate(f"{symbol} = {best:g}: {least[best][0]:.3f}", least[best][::-1], (0, -13), textcoords="offset points",
                  fontsize=8.5, ha="center", color=GREY)  # fmt: skip
    axes.legend(
        facecolor="white",
        edgecolor="none",
        framealpha=0.9,
        fontsize=7.5,
        title=symbol,
        title_fontsize=8.5,
        loc="upper right",
        ncols=2,
        handlelength=1,
    )
    axes.set_ylim(0.22, 0.56)
    label(axes, title, "step size", "RMS error, first 10 episodes" if axes is panels[0] else "")
    print(title, json.dumps({f"{number:g}": [round(x, 3) for x in pair] for number, pair in least.items()}))
save(
    figure,
    "random_walk",
    f"{RUNS} runs of {EPISODES} episodes, the same walks for every curve, seed {SEED}; γ = 1; float64",
)
