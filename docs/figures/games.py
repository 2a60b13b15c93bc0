"""Rock-paper-scissors: where plain, entropy-regularised and averaged self-play go, and who is exploited."""

import jax
import numpy as np
from style import BLUE, DASHDOT, DASHED, GREEN, GREY, RED, canvas, label, save

from policygrad.envs.repeated import OPPONENTS, rock_paper_scissors
from policygrad.games import GAMES, exploitability, nash, rps, selfplay
from policygrad.measure import value_iteration
from policygrad.run.selfplay import path, simplex, triangle

SEEDS, STEPS = 8, 5000
LOOKS = {"plain": (RED, DASHED), "average": (GREEN, DASHDOT), "entropy": (BLUE, "-")}


def runs(game, method: str, **options) -> list:
    return [selfplay(game, method, steps=STEPS, key=jax.random.key(seed), **options) for seed in range(SEEDS)]


figure, axes = canvas(3, width=9.8, height=3.9, gridspec_kw={"width_ratios": [1, 1, 1]})
plain, unequal = selfplay(rps(), "plain", steps=2000, key=jax.random.key(0)), GAMES["rps-unequal"]()
triangle(axes[0], rps().actions[0])
path(axes[0], simplex(plain.row), RED, "plain")
path(axes[0], simplex(selfplay(rps(), "entropy", key=jax.random.key(0)).row), BLUE, "entropy")
axes[0].legend(frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(-0.12, 1.02))
label(axes[0], "The row player's way, seed 0", "", "")

x, y, _ = nash(unequal)
for panel, game, title in ((axes[1], rps(), "rps"), (axes[2], unequal, "rock's prize doubled")):
    for method, (color, dashes) in LOOKS.items():
        plays = runs(game, method)
        curves = np.array([play.exploitability for play in plays])
        panel.plot(
            plays[0].step[1:], np.maximum(curves, 1e-7).mean(axis=0)[1:], color=color, linestyle=dashes, label=method
        )
        last = curves[:, -1]
        print(
            f"{game.name}, {method}: at the end mean {last.mean():.2g}, worst {last.max():.2g}, least {last.min():.2g}"
        )
    panel.axhline(0.01, color=GREY, linewidth=0.8)
    panel.set(xscale="log", yscale="log", ylim=(3e-7, 5))
    label(panel, f"Exploitability, {title}", "step", "")
axes[1].legend(frameon=False, fontsize=8.5, loc="lower left")
for method in ("entropy", "average"):
    last = np.array([play.exploitability[-1] for play in runs(rps(), method, batch=256)])
    print(f"rps, {method}, 256 sampled games: mean {last.mean():.2g}, worst {last.max():.2g}")
even = np.full(3, 1 / 3)
print(
    f"rps-unequal: Nash {x.round(4)}, {y.round(4)}; uniform is exploitable by {exploitability(unequal, even, even):.4f}"
)
for name in OPPONENTS:
    print(f"against {name}: at most {value_iteration(rock_paper_scissors(name), 1.0).value[0, 0] / 10:.2f} a round")
save(figure, "games", f"exact gradients, η = 0.5, τ from 0.25; seeds 0–{SEEDS - 1}, means; grey: 0.01")
