"""From one-step errors to n-step returns: actor-critic and A2C on CartPole."""

from matplotlib.ticker import FuncFormatter
from style import BLUE, DASHDOT, DASHED, GREEN, ORANGE, RED, SOLID, canvas, curves, label, save

import policygrad as pg
from policygrad.run.plots import in_thousands

SEEDS, STEPS = 5, 200_000
RUNS = {
    "actor-critic: TD(0), target copy": (("actor-critic", {}), RED, DASHED),
    "a2c with n = 1": (("a2c", {"n_step": 1}), ORANGE, DASHDOT),
    "a2c: to the window's end, n_steps = 5": (("a2c", {}), BLUE, SOLID),
    "a2c with n_steps = 16": (("a2c", {"n_steps": 16}), GREEN, (0, (1.2, 1.2))),
}
OPTIONS = dict(total_timesteps=STEPS, seeds=SEEDS, eval_every=0, log_every=8000, out=None)
figure, (axes,) = canvas(height=3.9)
for name, ((algo, changes), color, dashes) in RUNS.items():
    history = pg.train("CartPole-v1", algo, **OPTIONS, **changes).history
    curves(axes, history["time/total_timesteps"][:, 0], history["rollout/ep_rew_mean"], name, color, dashes)
axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: in_thousands(step)))
axes.set(xlim=(0, STEPS), ylim=(0, 510))
axes.legend(frameon=False, fontsize=8.5, loc="upper left")
label(axes, "CartPole-v1, eight streams", "environment steps", "episode return")
save(figure, "a2c", f"seeds 0–{SEEDS - 1}, mean and 95 % bootstrap band")
