"""Our side of throughput.py: environment steps per second of the whole training loop, as a user runs it.

    python benchmarks/ours.py --algo a2c --timesteps 2_000_000

``metrics.csv`` and TensorBoard are written to a temporary folder; evaluations are off. The rate is steps over seconds
between two log rows, the third and the last, so that start-up and compiling are left out and everything else counts.
One JSON line goes to standard output. With several seeds the rate is their total.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from common import add_training, set_threads

WARM_ROWS = 2
"""Log rows before the clock starts."""


def main() -> None:
    args = parse_args()
    set_threads(args)
    print(json.dumps(vars(args) | training_speed(args)))


def training_speed(args: argparse.Namespace) -> dict[str, Any]:
    """Total environment steps per second between the log marks."""
    import policygrad as pg

    marks: list[tuple[float, int]] = []

    def mark(row: dict[str, Any]) -> None:
        marks.append((time.perf_counter(), int(row["time/total_timesteps"].sum())))

    sizes = {name: value for name in ("n_envs", "n_steps") if (value := getattr(args, name)) is not None}
    with tempfile.TemporaryDirectory() as folder:
        options = dict(total_timesteps=args.timesteps, seed=args.seed, seeds=args.seeds, eval_every=0, **sizes)
        began = time.perf_counter()
        run = pg.train(args.env, args.algo, path=Path(folder) / "run", callback=mark, **options)
    if len(marks) < WARM_ROWS + 2:
        raise SystemExit(f"{len(marks)} log rows are too few to time anything: raise --timesteps")
    (start, before), (end, after) = marks[WARM_ROWS], marks[-1]
    return {
        "n_envs": run.recipe.n_envs,
        "n_steps": run.recipe.n_steps,
        "until_first_row": marks[0][0] - began,
        "log_rows": len(marks) - 1 - WARM_ROWS,
        "seconds": end - start,
        "steps_per_second": (after - before) / (end - start),
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training(parser)
    add = parser.add_argument
    add("--env", default="CartPole-v1")
    add("--timesteps", type=int, default=1_000_000, help="budget of each seed")
    add("--seeds", type=int, default=1, help="runs in one program")
    add("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
