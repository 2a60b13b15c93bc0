"""Our side of asynchronous.py: one measurement in a fresh process, one JSON line on standard output.

python benchmarks/async_run.py train --env LunarLander-v3 --workers 2 --timesteps 100_000
python benchmarks/async_run.py windows --env CartPole-v1     # how long the parts of a worker's window take
python benchmarks/async_run.py stress                        # two processes add as fast as they can
python benchmarks/async_run.py lost --env CartPole-v1        # what real workers lose
python benchmarks/async_run.py ray                           # a round trip of parameters through Ray
"""

import argparse
import json
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

BEGAN = time.time()
WARM_ROWS = 2
"""Log rows before the clock of a rate starts ..."""
WARM_UPDATES = 20
"""... and updates of every worker: none of them is still importing or compiling then."""


def main() -> None:
    args = parse_args()
    print(json.dumps(MEASUREMENTS[args.what](args)))


# Training


def train(args: argparse.Namespace) -> dict[str, Any]:
    """One run: rate, staleness, shares of time, and a curve ``[[steps, seconds since the first row, score], ...]``. The
    score is the evaluation where there are any, else the mean return of training episodes since the last row."""
    run = begin(args)
    from policygrad.run import api  # late: the number of XLA's threads is chosen before JAX is imported

    board = getattr(run.program, "board", None)
    marks: list[tuple[int, float]] = []
    warm: list[tuple[int, float]] = []
    curve: list[tuple[int, float, float]] = []

    def mark(row: dict[str, Any]) -> bool:
        now, steps = time.time(), int(row["time/total_timesteps"].sum())
        marks.append((steps, now))
        if len(marks) > WARM_ROWS and (board is None or board.updates.min() >= WARM_UPDATES):
            warm.append((steps, now))
        name = "eval/mean_reward" if run.recipe.eval_every else "rollout/ep_rew_mean"
        score = float(np.asarray(row.get(name, math.nan)).mean())
        if math.isfinite(score):
            curve.append((steps, now - marks[0][1], score))
        last = [score for _, _, score in curve[-args.smooth :]]
        return args.stop is None or len(last) < args.smooth or not statistics.fmean(last) >= args.stop

    run = api.proceed(run, callback=mark)
    if len(warm) < 3:
        raise SystemExit(f"{len(warm)} log rows are too few to time anything: raise --timesteps or lower --log-every")
    (before, start), (after, end) = warm[0], warm[-1]
    rows = run.recipe.n_envs * run.recipe.n_steps
    return {
        "until_first_row": marks[0][1] - args.began,
        "until_end": marks[-1][1] - args.began,
        "seconds": marks[-1][1] - marks[0][1],
        "steps": after,
        "timed": end - start,
        "steps_per_second": (after - before) / (end - start),
        "updates_per_second": (after - before) / (end - start) / rows,
        "halves": [rate / rows for rate in halves(warm)],
        "staleness": None if board is None else board.staleness.sum(axis=0).tolist(),
        "shares": None if board is None else shares(board),
        "curve": curve,
    }


def halves(warm: Sequence[tuple[int, float]]) -> list[float]:
    """Steps per second between the even log rows and the next, and between the odd ones: two halves of one run, which
    the drift of a machine's speed meets alike."""
    steps, seconds = (np.diff([mark[i] for mark in warm]) for i in (0, 1))
    return [float(steps[first::2].sum() / seconds[first::2].sum()) for first in (0, 1)]


def begin(args: argparse.Namespace) -> Any:
    """A run at its beginning."""
    from policygrad.run.devices import spare_threads
    from policygrad.run.recipes import make_recipe

    options = json.loads(args.options)
    options |= {"total_timesteps": args.timesteps, "seed": args.seed, "workers": args.workers}
    options |= {"eval_every": args.eval_every, "log_every": args.log_every or max(1, args.timesteps // 100)}
    recipe = make_recipe(args.algo, args.env, **options)
    spare_threads(recipe)
    from policygrad.run import api

    return api.begin(args.env, recipe, out=None)


def shares(board: Any) -> dict[str, float]:
    """Where the workers' time went."""
    from policygrad.parallel.board import SHARES

    spent = board.seconds.sum(axis=0)
    return {name: float(x / max(spent.sum(), 1e-9)) for name, x in zip(SHARES, spent)}


# The parts of a window


def windows(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the parts of one worker's window, measured one by one; for a pure world the fused update of one
    process beside them. ``play``: ``[n]`` durations of window and gradient."""
    run = begin(args)
    import jax

    from policygrad.parallel import hogwild
    from policygrad.parallel.board import Board
    from policygrad.run import workers

    program, n = run.program, args.windows
    player = workers.player_of(run.recipe, *workers.parts(run.recipe, program.inner, lambda: None))
    board, vectors = Board(player.layout), player.start(run.state.learner)
    board.theta[:], board.target[:], board.opt[:] = vectors["theta"], vectors["target"], vectors["opt"]
    theta, target, _, rows = hogwild.copy(0, player, board)
    local = player.begin(theta, *hogwild.worker_keys(run.recipe.seed, 0))
    seconds: dict[str, list[float]] = {"play": [], "step": [], "add": [], "copy": []}
    for _ in range(n):
        marks = [time.perf_counter()]
        local, window = player.play(theta, target, rows, run.recipe.ent_coef, local)
        marks.append(time.perf_counter())
        delta, opt_delta = map(np.asarray, player.step(board.statistics(0).copy(), window.grads, rows))
        marks.append(time.perf_counter())
        board.add(0, delta, opt_delta)
        hogwild.count(0, board, window, 0)
        marks.append(time.perf_counter())
        theta, target, _, rows = hogwild.copy(0, player, board)
        marks.append(time.perf_counter())
        for name, before, after in zip(seconds, marks, marks[1:]):
            seconds[name].append(after - before)
    warm = {name: values[n // 4 :] for name, values in seconds.items()}
    fused = None
    if hasattr(program.inner, "collector"):
        state, size = program.inner.init(jax.random.key(run.recipe.seed)), run.recipe.n_envs * run.recipe.n_steps
        state, _ = jax.block_until_ready(program.inner.advance(state, np.int32(size * n)))
        clock = time.perf_counter()
        jax.block_until_ready(program.inner.advance(state, np.int32(3 * size * n)))
        fused = (time.perf_counter() - clock) / (2 * n)
    program.close()
    return {
        "parameters": player.layout.params,
        "rows": run.recipe.n_envs * run.recipe.n_steps,
        "medians": {name: statistics.median(values) for name, values in warm.items()},
        "means": {name: statistics.fmean(values) for name, values in warm.items()},
        "spread": float(np.std(warm["play"]) / np.mean(warm["play"])),
        "quantiles": np.quantile(warm["play"], np.linspace(0.005, 0.995, 100)).tolist(),
        "fused": fused,
    }


# Lost updates


def stress(args: argparse.Namespace) -> dict[str, Any]:
    """Two processes add ones as fast as they can, which real workers never do."""
    from policygrad.parallel.board import Board, Layout

    n = args.windows
    board = Board(Layout(workers=2, params=args.params, opt=1, target=0, normal=0, metrics=1, features=1))
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=add_ones, args=(board, worker, n)) for worker in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit(f"a process of the stress test ended with exit code {process.exitcode}")
    torn = int((board.theta != np.round(board.theta)).sum() + (board.theta > 2 * n).sum())
    return {"parameters": args.params, "updates": 2 * n, "torn": torn, "lost": 1 - float(board.theta.mean()) / (2 * n)}


def add_ones(board: Any, worker: int, n: int) -> None:
    ones, nothing = np.ones(board.layout.params, np.float32), np.zeros(1, np.float32)
    board.ready[worker] = 1
    while not board.ready.all():  # together
        pass
    for _ in range(n):
        board.add(worker, ones, nothing)


def lost(args: argparse.Namespace) -> dict[str, Any]:
    """Real workers, each of which also adds up its own updates in memory that nobody else writes: what of their sum is
    not in θ? Rounding of θ is in the answer."""
    run = begin(args)
    from policygrad.run import api

    crew = run.program.crew
    crew.board = summing(crew.board.layout)
    before = run.program.player.start(run.state.learner)["theta"].astype(float)
    run = api.proceed(run)
    board = crew.board
    sums, sizes = board.sums.sum(axis=0), board.sizes.sum(axis=0)
    missing = np.abs(board.theta - before - sums).sum()
    return {
        "parameters": board.layout.params,
        "updates": int(board.updates.sum()),
        "lost": float(missing / sizes.sum()),
        "staleness": board.staleness.sum(axis=0).tolist(),
    }


def summing(layout: Any, *blocks: Any) -> Any:
    """A board that also adds up, in float64, what every worker adds: ``sums`` and, of absolute values, ``sizes``."""
    from policygrad.parallel.board import Board

    if not blocks:
        context, count = multiprocessing.get_context("spawn"), layout.workers * layout.params
        blocks = (None, context.RawArray("d", count), context.RawArray("d", count))

    class Summing(Board):
        sums, sizes = (np.frombuffer(block).reshape(layout.workers, layout.params) for block in blocks[1:])

        def __reduce__(self) -> tuple:
            return partial(summing, layout), (self.block, *blocks[1:])

        def add(self, worker: int, delta: np.ndarray, opt_delta: np.ndarray) -> None:
            super().add(worker, delta, opt_delta)
            self.sums[worker] += delta
            self.sizes[worker] += np.abs(delta)

    return Summing(layout, blocks[0])


# Traffic


def ray(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a round trip through Ray on this machine: a vector goes to an actor, is added there, and the sum comes
    back; of the addition alone; and, where very short messages queue, from one to the next."""
    import ray as ray_package

    ray_package.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)

    class Server:
        def __init__(self, size: int) -> None:
            self.theta = np.zeros(size, np.float32)

        def add(self, delta: np.ndarray) -> tuple[np.ndarray, float]:
            clock = time.perf_counter()
            self.theta += delta
            answer = self.theta.copy()
            return answer, time.perf_counter() - clock

    server, small = (ray_package.remote(Server).remote(size) for size in (args.params, 1))
    delta, trips, handled = np.ones(args.params, np.float32), [], []
    try:
        for _ in range(args.windows):
            clock = time.perf_counter()
            _, inside = ray_package.get(server.add.remote(delta))
            trips.append(time.perf_counter() - clock)
            handled.append(inside)
        burst = [np.ones(1, np.float32)] * args.windows
        ray_package.get([small.add.remote(one) for one in burst])
        clock = time.perf_counter()
        ray_package.get([small.add.remote(one) for one in burst])
        message = (time.perf_counter() - clock) / len(burst)
    finally:
        ray_package.shutdown()
    warm = len(trips) // 4
    return {
        "parameters": args.params,
        "round_trip": statistics.median(trips[warm:]),
        "handled": statistics.median(handled[warm:]),
        "message": message,
        "ray": ray_package.__version__,
    }


MEASUREMENTS = {"train": train, "windows": windows, "stress": stress, "lost": lost, "ray": ray}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("what", choices=MEASUREMENTS)
    add("--env", default="CartPole-v1")
    add("--algo", default="a3c")
    add("--workers", type=int, default=2, help="0: one process without workers")
    add("--timesteps", type=int, default=100_000)
    add("--seed", type=int, default=0)
    add("--options", default="{}", metavar="JSON", help="changes of the recipe")
    add("--eval-every", type=int, default=0, help="default: never")
    add("--log-every", type=int, help="default: a hundredth of the budget")
    add("--stop", type=float, metavar="SCORE", help="end once the last rows are at least this good, on average")
    add("--smooth", type=int, default=1, metavar="N", help="over so many rows (default: 1)")
    add("--windows", type=int, default=400, help="windows, additions or round trips to time")
    add("--params", type=int, default=10_000, help="length of the vector that is added")
    add("--began", type=float, default=BEGAN, help="when this process was started, in seconds since 1970")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
