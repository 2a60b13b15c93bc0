"""A cut is no end: reward 1 for ever, watched for 8 steps at a time. Two critics that see the time, one rule apart."""

import numpy as np
from style import BLUE, DASHED, GREY, INK, RED, canvas, label, save

import policygrad as pg
from policygrad.envs.tabular import TabularMDP

GAMMA, T = 0.9, 8
OPTIONS = dict(
    policy="tabular", time_to_go=True, gamma=GAMMA, n_steps=T,
    optimizer="sgd", learning_rate=2.0, max_grad_norm=None,
    total_timesteps=60_000, eval_every=0, out=None,
)  # fmt: skip


def forever(**limit: int) -> TabularMDP:
    """One state, two actions, reward 1."""
    return TabularMDP(np.ones(1), np.ones((1, 2, 1)), np.ones((1, 2, 1)), **limit)


t = np.arange(T)
endless, finite = np.full(T, 1 / (1 - GAMMA)), (1 - GAMMA ** (T - t)) / (1 - GAMMA)
WORLDS = {
    "time_limit: cut, V goes on": (forever(time_limit=T), BLUE, endless),
    "horizon: an end, V is zero there": (forever(horizon=T, time_limit=T), RED, finite),
}
figure, (axes,) = canvas(height=3.6)
for name, (env, color, closed) in WORLDS.items():
    learned = pg.train(env, "a2c", **OPTIONS).models[0].critic.last.rows[:, 0, 0]
    axes.plot(t, closed, color=GREY, linestyle=DASHED, linewidth=1)
    axes.plot(t, learned, "o", color=color, markersize=6, label=name)
    words = f"V(0) = {float(learned[0]):.3f}, exactly {closed[0]:.3f}"
    axes.annotate(words, (0, closed[0]), (10, 9), textcoords="offset points", fontsize=9, color=INK)
axes.plot([], [], color=GREY, linestyle=DASHED, linewidth=1, label="closed form")
axes.set(ylim=(0, 12), xlim=(-0.3, T - 0.7))
axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 0.02))
label(axes, "Reward 1 per step, watched 8 steps at a time", "step of the episode t", "learned V(t)")
save(figure, "truncation", f"a2c, tabular V, γ = {GAMMA}, 60k steps; seed 0")
