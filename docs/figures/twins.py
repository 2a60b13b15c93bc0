"""Pure-JAX twins beside Gymnasium's own environments: the same start, the same actions, how far apart?"""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from style import BLUE, DASHDOT, DASHED, DOTTED, GREEN, GREY, ORANGE, PINK, RED, SOLID, canvas, label, save

from policygrad.envs import make

jax.config.update("jax_enable_x64", True)  # as Gymnasium computes
STEPS, SEEDS = 200, 5
TWINS = {
    "CartPole-v1": (BLUE, SOLID),
    "Acrobot-v1": (RED, DASHED),
    "MountainCar-v0": (GREEN, DASHDOT),
    "MountainCarContinuous-v0": (PINK, DOTTED),
    "Pendulum-v1": (ORANGE, (0, (5, 1.5, 1, 1.5, 1, 1.5))),
}


def apart(name: str, seed: int) -> np.ndarray:
    """Largest difference of the two observations after each step; NaN once the episode is over."""
    twin, real = make(name), gymnasium.make(name).unwrapped
    real.reset(seed=seed)
    real.action_space.seed(seed)
    state, step = jnp.asarray(np.array(real.state, float)), jax.jit(twin.step)
    noise = twin.draw(jax.random.key(seed), ())
    found = np.full(STEPS, np.nan)
    for t in range(STEPS):
        action = real.action_space.sample()
        state, obs, _, _ = step(noise, state, jnp.asarray(action))
        real_obs, _, over, _, _ = real.step(action)
        found[t] = np.abs(np.asarray(obs, np.float64) - real_obs).max()
        if over:
            break
    return found


figure, (axes,) = canvas(height=3.7)
for name, (color, dashes) in TWINS.items():
    runs = np.stack([apart(name, seed) for seed in range(SEEDS)])
    going = np.isfinite(runs).any(axis=0)
    steps, worst = np.arange(1, STEPS + 1)[going], np.nanmax(runs[:, going], axis=0)
    axes.plot(steps, worst, color=color, linestyle=dashes, linewidth=1.5, label=name)
axes.set(yscale="log", xlim=(0, STEPS), ylim=(1e-10, 1e-4))
axes.axhline(np.finfo(np.float32).eps, color=GREY, linewidth=0.9)
axes.text(STEPS, 1.6e-6, "grey line: float32, relative rounding", fontsize=8.5, color=GREY, ha="right")
axes.legend(frameon=False, fontsize=8.5, ncols=2)
label(
    axes, "Twin and Gymnasium, the same random actions", "steps since the start", "largest |difference| of observations"
)
save(figure, "twins", f"gymnasium {gymnasium.__version__}; seeds 0–{SEEDS - 1}, the worst of them")
