"""Causality: the exact variance of reward-to-go over that of the total return, on many worlds."""

from collections.abc import Callable

import numpy as np
from style import BLUE, EXACT, FAINT, GREY, INK, RED, canvas, label, save
from worlds import policy

from policygrad.envs.tabular import TabularMDP, random_mdp
from policygrad.ladder import Psi
from policygrad.measure import ladder_moments

HORIZONS, WORLDS = (1, 2, 4, 6, 8), 40
RUNGS = {"total": Psi("total_return", gamma=1.0), "to_go": Psi("reward_to_go", gamma=1.0)}


def ratio(seed: int, horizon: int, reward: Callable[[np.ndarray], np.ndarray]) -> float:
    """Variance of reward-to-go over variance of the total return."""
    base = random_mdp(seed, 3, 2, branching=1, n_rewards=1, horizon=horizon)
    mdp = TabularMDP(base.initial, base.transition, reward(base.reward_value), horizon=horizon)
    found = ladder_moments(mdp, policy(mdp, seed), RUNGS)
    return float(found["to_go"].variance / found["total"].variance)


figure, panels = canvas(2, sharey=True)
KINDS = {"Rewards of one sign": (np.abs, BLUE), "Rewards of both signs": (np.asarray, RED)}
for axes, (title, (reward, color)) in zip(panels, KINDS.items()):
    ratios = np.array([[ratio(seed, horizon, reward) for horizon in HORIZONS] for seed in range(WORLDS)])
    axes.plot(HORIZONS, ratios.T, color=FAINT, linewidth=0.7)
    axes.plot(HORIZONS, np.median(ratios, axis=0), color=color, linewidth=2.2, marker="o", markersize=4)
    axes.axhline(1, color=GREY, linewidth=0.8)
    axes.set(yscale="log", ylim=(0.18, 3), xticks=HORIZONS)
    axes.set_yticks([0.25, 0.5, 1, 2], ["¼", "½", "1", "2"])
    axes.minorticks_off()
    better = (ratios[:, -1] < 1).mean()
    words = f"at T = {HORIZONS[-1]}: median {np.median(ratios[:, -1]):.2f}, less variance on {better:.0%} of worlds"
    axes.text(0.99, 0.94, words, transform=axes.transAxes, fontsize=7.5, color=INK, ha="right")
    label(axes, title, "steps per episode T", "")
panels[0].set_ylabel("variance: reward-to-go / total return", fontsize=9.5, color=INK)
figure.subplots_adjust(wspace=0.12)
save(figure, "causality", f"random_mdp(0–{WORLDS - 1}), γ = 1; {EXACT}")
