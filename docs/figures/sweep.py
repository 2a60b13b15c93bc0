"""γ × λ on CartPole, every run of it in one program: the picture of ``examples/sweep.py``."""

import runpy
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from style import INK, canvas, label, save

SEEDS, UPDATES = 3, 200
GAMMAS, LAMBDAS = jnp.array([0.9, 0.95, 0.97, 0.99, 1.0]), jnp.array([0.0, 0.5, 0.8, 0.95, 1.0])
example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "sweep.py"))
found = example["sweep"](GAMMAS, LAMBDAS, SEEDS, UPDATES).mean(axis=-1)

figure, (axes,) = canvas(width=5.6, height=4.3)
axes.grid(False)
axes.imshow(found, cmap="cividis", vmin=0, vmax=500, aspect="auto", origin="lower")
for i, j in np.ndindex(found.shape):
    color = "white" if found[i, j] < 300 else INK
    axes.text(j, i, f"{found[i, j]:.0f}", ha="center", va="center", fontsize=10, color=color)
axes.set_xticks(range(len(LAMBDAS)), [f"{x:g}" for x in np.asarray(LAMBDAS)])
axes.set_yticks(range(len(GAMMAS)), [f"{x:g}" for x in np.asarray(GAMMAS)])
axes.tick_params(length=0)
axes.spines[:].set_visible(False)
label(axes, "CartPole-v1: mean return at the end of training", "λ", "γ")
save(figure, "sweep", f"{found.size * SEEDS} runs of {UPDATES * 256:,} steps; {SEEDS} keys split from key(0)")
