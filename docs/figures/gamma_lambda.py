"""γ × λ on CartPole: the experiment of Schulman et al. (2016), and what each cell's gradient is worth.

A few minutes on two cores.
"""

from style import save

import policygrad as pg
from policygrad.run.heatmaps import figure_of

SEEDS, UPDATES, WINDOW = 8, 20, 2048
found = pg.sweep(
    "CartPole-v1",
    "ppo",
    gamma=[0.8, 0.9, 0.96, 0.98, 0.99, 0.995, 1.0],
    gae_lambda=[0.0, 0.5, 0.9, 0.96, 0.99, 1.0],
    seeds=SEEDS,
    total_timesteps=UPDATES * WINDOW,
    n_envs=4,
    n_steps=WINDOW // 4,
    n_epochs=10,
    n_minibatches=8,
    learning_rate=1e-3,
    net=32,
    out=None,
)
print(found.table())
how = f"seeds 0 to {SEEDS - 1}; {UPDATES} updates of {WINDOW} steps; gradients on {found.surface.trajectories} episodes"
save(figure_of(found, foot=0.3), "gamma_lambda", how)
