"""What a memory is for: a cue is shown once and asked for four steps later."""

from style import BLUE, DASHED, GREY, RED, canvas, curves, label, save

import policygrad as pg

SEEDS, STEPS = 5, 40_000
RUNS = {"gru: π(a | history)": ("gru", BLUE, "-"), "mlp: π(a | observation)": ("mlp", RED, DASHED)}
OPTIONS = dict(
    net=(32,), n_steps=10, optimizer="adam", learning_rate=3e-3,
    total_timesteps=STEPS, seeds=SEEDS, eval_every=0, log_every=800, out=None,
)  # fmt: skip
figure, (axes,) = canvas(height=3.4)
for name, (policy, color, dashes) in RUNS.items():
    history = pg.train("probe:memory", "a2c", policy=policy, **OPTIONS).history
    curves(axes, history["time/total_timesteps"][:, 0], history["rollout/ep_rew_mean"], name, color, dashes)
axes.axhline(1, color=GREY, linewidth=0.8)
axes.axhline(0, color=GREY, linewidth=0.8)
axes.set(xlim=(0, STEPS), ylim=(-0.3, 1.1))
axes.legend(frameon=False, fontsize=9, loc="center right")
label(axes, "probe:memory (0 is all that is possible without memory)", "environment steps", "episode return")
save(figure, "memory", f"a2c, 32 units, Adam 3e-3; seeds 0–{SEEDS - 1}, mean and 95 % bootstrap band")
