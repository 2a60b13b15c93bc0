"""The microscope on a half-trained CartPole policy: worth, bias and variance, cosines, the parts of the variance.

Train `a2c-gae` for 100,000 steps (seed 3), freeze the policy, measure every main rung from 4,096 episodes, with 4,096
more for the true gradient, in batches of 64, and the parts of the variance from 1,024 states.
"""

from pathlib import Path

import policygrad as pg
from policygrad.run.pictures import pictures

IMG = Path(__file__).parents[1] / "img"

run = pg.train("CartPole-v1", "a2c-gae", total_timesteps=100_000, seed=3, out=None, eval_every=0)
report = pg.measure(run, trajectories=4096, parts=1024, seed=1)
for name, svg in pictures(report.measurement, report.parts).items():
    (IMG / f"measure-{name}.svg").write_bytes(svg)
print(report)
