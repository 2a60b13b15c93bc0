"""What measuring costs: 4,096 episodes of a good CartPole policy, and the gradient part against PyTorch.

    python benchmarks/microscope.py [--peers DIR]
    python benchmarks/microscope.py --table          # the last results again, as Markdown

Two rows. "report": a policy is trained first (not counted), then ``policygrad measure`` runs in a fresh process with an
empty compilation cache and again with the one that left: 4,096 episodes, 8 rungs and the run's own, 4,096 more for the
true gradient, statistics and page included. "gradients": batches of 64 episodes of 500 steps, 8 rungs, 8 groups, as
many batches at once as there are cores, in our compiled function and in ``torch.func``, one after the other in the same
run; median seconds of a batch. The bar is against ``vmap(grad)``, which torch.func teaches; the best of four more ways,
which are told that the gradient is linear in Ψ, is in the row too. Rows are appended to results/microscope.json.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from common import HERE, RESULTS, add_peers, parser, peer_python, progress, run_json, stamp
from ledger import Ledger, Row, markdown, verdict

LEDGER = Ledger(RESULTS / "microscope.json")
SECONDS, RATIO = 30.0, 5.0
"""The bars: of a report, and against PyTorch."""
SIZES = {"rows": 500, "batch": 64, "rungs": 8, "groups": 8}


def main() -> None:
    args = parse_args()
    if not args.table:
        LEDGER.add([gradients(args), report(args)])
    print(table())


def report(args: argparse.Namespace) -> Row:
    """Seconds of ``policygrad measure``, cold and warm, from process start to the page on the disk."""
    marks = stamp(args.date)
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        environment = {"POLICYGRAD_CACHE": str(Path(folder) / "first")}
        train = ["train", "CartPole-v1", "--algo", "a2c-gae", "--path", run, "--seed", "0"]
        policygrad(*train, **environment)
        environment = {"POLICYGRAD_CACHE": str(Path(folder) / "cache")}
        for cache in ("cold", "warm"):
            began = time.perf_counter()
            measure = ["measure", run, "--trajectories", args.trajectories, "--out", Path(folder) / "report", "--json"]
            found = run_json([sys.executable, "-m", "policygrad", *measure], **environment)
            seconds[cache] = time.perf_counter() - began
            progress(f"report, {cache}: {seconds[cache]:.1f} s")
    measured = found["measurement"]
    return {
        "name": "report",
        "trajectories": measured["trajectories"],
        "rungs": len(measured["rungs"]),
        "mean_return": measured["ret"]["value"],
        "seconds": seconds,
        "bar": SECONDS,
        **marks,
    }


def policygrad(*arguments: Any, **environment: str) -> None:
    import subprocess

    command = [sys.executable, "-m", "policygrad", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})


def gradients(args: argparse.Namespace) -> Row:
    """Our gradients of groups against torch.func's, of the same sizes."""
    marks = stamp(args.date)
    ours = our_gradients()
    python = peer_python(args.peers, "sb3")
    sizes = [part for name, value in SIZES.items() for part in (f"--{name}", value)]
    peer = run_json([python, HERE / "peers" / "torch_gradients.py", *sizes]) if python else None
    ours = median([ours, our_gradients()])
    ratio, best = (peer["ways"]["grad"] / ours, peer["seconds"] / ours) if peer else (None, None)
    progress(f"gradients: {1e3 * ours:.0f} ms; torch.func {ratio or 0:.2f} x that, at best {best or 0:.2f} x")
    row = {"name": "gradients", **SIZES, "seconds": ours, "peer": peer, "ratio": ratio, "best_ratio": best}
    return row | {"bar": RATIO, **marks}


def our_gradients(batches: int = 8) -> float:
    """Median seconds of a batch."""
    import equinox as eqx
    import jax

    import policygrad as pg
    from policygrad.learn.groups import gradient_groups
    from policygrad.measure.gather import actor_alone, in_order
    from policygrad.run.devices import cores

    env = pg.make("CartPole-v1")
    model = pg.make_model(env.observation_space, env.action_space, key=jax.random.key(0))
    collector = pg.episode_collector(pg.autoreset(env), SIZES["batch"])
    trajectory = collector.collect(model, None, jax.random.key(1))[1]
    trajectory = trajectory._replace(mask=trajectory.mask | True)
    weights = jax.random.normal(jax.random.key(2), (SIZES["rungs"], SIZES["rows"], SIZES["batch"]))
    compute = eqx.filter_jit(lambda model, t, w: gradient_groups(model, t, w, SIZES["groups"]))
    one = lambda _: jax.block_until_ready(compute(actor_alone(model), trajectory, weights))  # noqa: E731
    times = []
    for _ in range(8):
        began = time.perf_counter()
        for _ in in_order(one, range(batches), cores()):
            pass
        times.append((time.perf_counter() - began) / batches)
    return median(times[1:])


def table() -> str:
    """The last row of each name, as Markdown."""
    lines = []
    for name in ("report", "gradients"):
        rows = LEDGER.select(name=name)
        if not rows:
            lines.append([name, "not run", "", "", "", ""])
            continue
        row = rows[-1]
        if name == "report":
            cold, warm = row["seconds"]["cold"], row["seconds"]["warm"]
            said, passed = f"{cold:.1f} s cold, {warm:.1f} s warm", cold <= row["bar"]
            bar = f"≤ {row['bar']:g} s"
        else:
            peer = f", torch.func {row['ratio']:.2f} × (at best {row['best_ratio']:.2f} ×)" if row["ratio"] else ""
            said = f"{1e3 * row['seconds']:.0f} ms{peer}"
            passed, bar = (row["ratio"] or 0) >= row["bar"], f"≥ {row['bar']:g} ×"
        lines.append([name, said, bar, verdict(1.0, passed), f"{row['machine']['load']}", row["date"]])
    return markdown(("what", "measured", "bar", "", "load", "date"), lines)


def parse_args() -> argparse.Namespace:
    made = parser(__doc__)
    add_peers(made)
    made.add_argument("--trajectories", type=int, default=4096, help="episodes (default: 4096)")
    made.add_argument("--table", action="store_true", help="print the last results and measure nothing")
    return made.parse_args()


if __name__ == "__main__":
    main()
