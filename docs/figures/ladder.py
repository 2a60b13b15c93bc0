"""The ladder on CartPole: one more rung each time, the same step size, the same episodes per update."""

import numpy as np
from matplotlib.ticker import FuncFormatter
from style import BLUE, GREEN, ORANGE, RED, canvas, curves, label, save

import policygrad as pg
from policygrad.run.plots import in_thousands

SEEDS, STEPS = 5, 120_000
RUNGS = {
    "reinforce": "REINFORCE",
    "reinforce-togo": "+ causality",
    "reinforce-mean": "+ mean of the others",
    "reinforce-optimal": "+ b* instead",
}
OPTIONS = dict(total_timesteps=STEPS, seeds=SEEDS, eval_every=0, log_every=6000, out=None)

figure, panels = canvas(len(RUNGS), width=10.4, height=3.4, sharey=True)
steps = np.linspace(6000, STEPS, 58)
for axes, (algo, name), color in zip(panels, RUNGS.items(), (RED, ORANGE, BLUE, GREEN)):
    history = pg.train("CartPole-v1", algo, **OPTIONS).history
    per_seed = zip(history["time/total_timesteps"].T, history["rollout/ep_rew_mean"].T)
    returns = np.stack([np.interp(steps, x[np.isfinite(y)], y[np.isfinite(y)]) for x, y in per_seed], axis=1)
    axes.plot(steps, returns, color=color, linewidth=0.6, alpha=0.5)
    curves(axes, steps, returns, name, color)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: in_thousands(step)))
    axes.set(xlim=(0, STEPS), ylim=(0, 510))
    label(axes, name, "environment steps", "")
panels[0].set_ylabel("episode return", fontsize=9.5)
figure.subplots_adjust(wspace=0.12)
save(figure, "ladder", f"the four reinforce presets, CartPole-v1; seeds 0–{SEEDS - 1}, mean and 95 % bootstrap band")
