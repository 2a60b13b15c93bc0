"""A3C: how stale gradients are, and updates a second against workers: measured on this machine, simulated beyond."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.ticker import NullLocator
from style import BLUE, DASHDOT, DASHED, GREEN, GREY, ORANGE, RED, canvas, label, save

from policygrad.parallel.simulate import simulate

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import asynchronous as bench

task = next(task for task in bench.TASKS if task.name == "lunarlander")
figure, (left, right) = canvas(2, width=9.2, height=3.9)

for i, (arm, color) in enumerate({bench.TWO: BLUE, "4 workers": ORANGE}.items()):
    rows = bench.rows_of("rates", task.name, arm)
    if rows:
        bins = np.sum([row["staleness"] for row in rows], axis=0)[:8]
        left.bar(np.arange(8) + 0.4 * i - 0.2, bins / bins.sum(), 0.38, color=color, label=arm)
left.legend(frameon=False, fontsize=8.5)
label(left, f"{task.env}: staleness, measured", "updates between copy and application", "share of gradients")

workers = np.unique(np.geomspace(1, 10_000, 17).astype(int))
styles = [(GREY, DASHED), (BLUE, DASHED), (GREEN, DASHDOT), (RED, (0, (1.2, 1.2)))]
for (name, system), (color, dashes) in zip(bench.systems(task).items(), styles):
    rates = [simulate(system, int(n)).updates_per_second for n in workers]
    right.plot(workers, rates, color=color, linestyle=dashes, linewidth=1.6, label=f"{name} (simulated)")
measured = [(row.workers, row.updates_per_second) for row in bench.measured(task, (bench.ONE, bench.TWO))]
if measured:
    right.plot(*zip(*measured), "o", color="black", markersize=4, label="measured, shared memory")
right.set(xscale="log", yscale="log")
right.set_ylim(top=4 * right.get_ylim()[1])  # room for the legend
right.xaxis.set_minor_locator(NullLocator())
right.yaxis.set_minor_locator(NullLocator())
right.legend(frameon=False, fontsize=7, loc="upper left")
label(right, "Dashed and dotted: simulated", "workers", "updates per second")
save(figure, "a3c", "rows of benchmarks/results/asynchronous.json; lines: a simulation")
