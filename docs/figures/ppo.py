"""PPO: four surrogates over the ratio, and how often a window can be used before the steps break loose."""

import jax.numpy as jnp
import numpy as np
from style import BLUE, DASHDOT, DASHED, GREEN, GREY, INK, RED, SOLID, canvas, curves, label, save

import policygrad as pg

SEEDS, STEPS, EPOCHS, RATE = 5, 32_768, 8, 2.5e-3
KINDS = {
    "score": (pg.Score(), GREY, (0, (1.2, 1.2))),
    "ratio": (pg.Ratio(), RED, DASHED),
    "clipped": (pg.Clipped(0.2), BLUE, SOLID),
    "kl-penalty": (pg.KLPenalty(3.0), GREEN, DASHDOT),
}
OPTIONS = dict(
    n_epochs=EPOCHS, learning_rate=RATE,
    total_timesteps=STEPS, seeds=SEEDS, eval_every=0, log_every=2048, out=None,
)  # fmt: skip
figure, (left, right) = canvas(2, width=8.6, height=3.8)
rho = np.linspace(0.4, 1.8, 141)
for name, (kind, color, dashes) in KINDS.items():
    value = kind(jnp.log(rho), jnp.zeros_like(rho), jnp.ones_like(rho))
    left.plot(rho, np.asarray(value) + (name == "score"), color=color, linestyle=dashes, linewidth=1.8, label=name)
    if name != "score":
        own = {"kl_coef": 3.0} if name == "kl-penalty" else {}
        history = pg.train("CartPole-v1", "ppo", surrogate=name, **own, **OPTIONS).history
        steps, kl = history["time/total_timesteps"][:, 0], history["train/approx_kl"]
        curves(right, steps / 1000, kl, name, color, dashes)
left.plot(1, 1, "o", color=INK, markersize=4)
left.legend(frameon=False, fontsize=9)
right.set_yscale("log")
right.set_ylim(3e-4, 3)
right.set_xlim(0, STEPS / 1000)
label(left, "One row, Ψ = 1: equal slopes at ρ = 1", "ρ = π/μ", "surrogate (score: + 1)")
label(right, f"{EPOCHS} epochs on each window, CartPole-v1", "thousand environment steps", "approximate KL(μ‖π)")
options = f"ppo with n_epochs {EPOCHS}, learning_rate {RATE}, kl_coef 3"
save(figure, "ppo", f"{options}; seeds 0–{SEEDS - 1}, mean and 95 % bootstrap band")
