"""Our side of throughput.py: environment steps per second of the whole training loop, as a user runs it.

    python benchmarks/ours.py --algo a2c --timesteps 2_000_000
    python benchmarks/ours.py --env HalfCheetah-v5 --n-envs 8 --timesteps 40_000 --alone

``metrics.csv`` and TensorBoard are written to a temporary folder; evaluations are off. The rate is steps over seconds
between two log rows, the third and the last, so that start-up and compiling are left out and everything else counts.
One JSON line goes to standard output. With several seeds the rate is their total.

``--alone`` is the ceiling on the host: Gymnasium's own vector environment, without us, with random actions.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from common import add_training, set_threads

WARM_ROWS = 2
"""Log rows before the clock starts."""
WARM_STEPS = 50
"""Steps of the environments alone before it does."""
PARTS = ("env", "policy", "learning")
"""What the time of a host run is spent on."""


def main() -> None:
    args = parse_args()
    set_threads(args)
    print(json.dumps(vars(args) | (speed_alone(args) if args.alone else training_speed(args))))


def training_speed(args: argparse.Namespace) -> dict[str, Any]:
    """Total environment steps per second between the log marks."""
    import policygrad as pg

    marks: list[tuple[float, int]] = []
    shares: list[list[float]] = []

    def mark(row: dict[str, Any]) -> None:
        marks.append((time.perf_counter(), int(row["time/total_timesteps"].sum())))
        shares.append([float(row.get(f"time/share_{part}", math.nan)) for part in PARTS])

    settings = ("n_envs", "n_steps", "vectorization", "gradient_rows")
    sizes = {name: value for name in settings if (value := getattr(args, name)) is not None}
    sizes |= pictures(args.cnn) if args.cnn else {}
    with tempfile.TemporaryDirectory() as folder:
        options = dict(total_timesteps=args.timesteps, seed=args.seed, seeds=args.seeds, eval_every=0, **sizes)
        began = time.perf_counter()
        run = pg.train(args.env, args.algo, path=Path(folder) / "run", callback=mark, **options)
    if len(marks) < WARM_ROWS + 2:
        raise SystemExit(f"{len(marks)} log rows are too few to time anything: raise --timesteps")
    (start, before), (end, after) = marks[WARM_ROWS], marks[-1]
    spent = [statistics.fmean(column) for column in zip(*shares[WARM_ROWS + 1 :])]
    return {
        "n_envs": run.recipe.n_envs,
        "n_steps": run.recipe.n_steps,
        "until_first_row": marks[0][0] - began,
        "log_rows": len(marks) - 1 - WARM_ROWS,
        "seconds": end - start,
        "steps_per_second": (after - before) / (end - start),
        "shares": None if math.isnan(sum(spent)) else dict(zip(PARTS, spent)),
    }


def pictures(layout: str) -> dict[str, Any]:
    """As the field trains on Atari: one network of convolutions with two heads, and the rewards' signs."""
    return {"cnn": layout, "net": (), "shared_torso": True, "clip_reward": True}


def speed_alone(args: argparse.Namespace) -> dict[str, Any]:
    """Environment steps per second of the vector environment that Gymnasium makes, random actions drawn beforehand."""
    import gymnasium

    if args.env.startswith("ALE/"):
        import ale_py

        gymnasium.register_envs(ale_py)
    vector = gymnasium.make_vec(args.env.removeprefix("gym:"), args.n_envs)
    vector.reset(seed=args.seed)
    vector.action_space.seed(args.seed)
    actions = [vector.action_space.sample() for _ in range(1000)]
    for action in actions[:WARM_STEPS]:
        vector.step(action)
    start, n_steps = time.perf_counter(), max(1, args.timesteps // args.n_envs)
    for t in range(n_steps):
        vector.step(actions[t % len(actions)])
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "steps_per_second": n_steps * args.n_envs / seconds}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training(parser)
    add = parser.add_argument
    add("--env", default="CartPole-v1")
    add("--timesteps", type=int, default=1_000_000, help="budget of each seed")
    add("--seeds", type=int, default=1, help="runs in one program")
    add("--seed", type=int, default=0)
    add("--cnn", choices=["nature", "a3c", "minatar"], help="pictures: convolutions, two heads, clipped rewards")
    add("--gradient-rows", type=int, help="default: all")
    add("--vectorization", choices=["auto", "sync", "async"], help="host environments (default: auto)")
    add("--alone", action="store_true", help="the environments alone, with random actions")
    return parser.parse_args()


if __name__ == "__main__":
    main()
