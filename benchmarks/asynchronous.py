"""What asynchronous workers are worth: rates, time to a score, against A2C, what they lose, and what is forecast.

    python benchmarks/asynchronous.py                                  # whatever is missing in the ledger
    python benchmarks/asynchronous.py --only rates --tasks cartpole --rounds 5 --again
    python benchmarks/asynchronous.py --only races --seeds 0:20
    python benchmarks/asynchronous.py --only peer --rounds 3           # `make peers` first
    python benchmarks/asynchronous.py --game ALE/Breakout-v5 --minutes 45
    python benchmarks/asynchronous.py --table                          # the last results again, as Markdown
    python benchmarks/asynchronous.py --page                           # the tables into docs/19 and 20

*rates*: updates per second with 1 and 2 workers, and with 3 and 4 for the simulation's check, in alternating rounds.
*races*: one budget of steps for 1 worker, 2 workers and A2C (the same settings, one process) with the same seeds; they
give the time to a reference score and what is learned in equal steps and in equal time. *start*: CartPole-v1 solved,
from the start of the process. *windows*: the parts of a worker's window, one by one. *lost*: updates that are lost, by
two processes that only add, and by real workers. *ray*: a round trip of parameters. *peer*: steps per second of a game
against A3C in PyTorch, two workers each, in turns. Every measurement is a fresh process with one thread for each worker
(XLA's, and the games'), start-up and compiling outside but for *start*. Rows go to results/asynchronous.json as they
come; what is there is not run again.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np
from common import HERE, RESULTS, ROOT, add_peers, ours, parser, peer_python, progress, run_json, seeds_of, stamp
from ledger import Ledger, Row, markdown, verdict, with_tables
from throughput import busy_elsewhere

from policygrad.run.tuned import GAME as PICTURES

LEDGER = Ledger(RESULTS / "asynchronous.json", key=("kind", "name", "arm", "seed", "scale"))
PAGES = tuple(ROOT / "docs" / name for name in ("19-a3c.md", "20-scaling.md"))
KINDS = ("rates", "races", "start", "windows", "lost", "ray", "peer")
ONE, TWO, A2C = "1 worker", "2 workers", "a2c"
RATE_ARMS = {ONE: 1, TWO: 2, "3 workers": 3, "4 workers": 4}
RACE_ARMS = {ONE: 1, TWO: 2, A2C: 0}
RATE_BAR, RACE_BAR, PEER_BAR, START_BAR, SOLVED = 1.85, 1.7, 2.0, 10.0, 475.0
LONG_RACES = 1
"""Seeds of a race that takes half an hour."""
EPISODES = 30
LAST = 0.2
"""The share of a budget over which a score is averaged."""
FORECAST = (1, 2, 4, 8, 16, 64, 256, 1024, 4096, 10_000)
LANDER = {"gamma": 0.995, "ent_coef": 1e-5, "optimizer": "rmsprop", "learning_rate": 8.3e-4}


class Task(NamedTuple):
    """An environment and what is measured on it."""

    name: str
    env: str
    options: dict[str, Any]
    """Changes of the preset ``a3c``."""
    rate_steps: int
    """Budget of a rate."""
    race_steps: int = 0
    """Budget of a race; 0: none."""
    reference: float = math.nan
    """The score to be reached."""
    eval_every: int = 0
    """Races are scored by greedy evaluations; 0: by the mean return of training episodes, over :attr:`smooth` rows."""
    smooth: int = 1
    log_every: int = 2000
    stops: bool = False
    """Its races end at the reference, without A2C and with few seeds: they are long."""


CONSTANT = {"lr_schedule": "constant"}
GAME = PICTURES | CONSTANT | {"env_kwargs": "num_threads=1"}
TASKS = (
    Task("cartpole", "CartPole-v1", CONSTANT | {"engine": "processes"}, 400_000, 400_000, 475, eval_every=10_000),
    Task("lunarlander", "LunarLander-v3", LANDER | CONSTANT, 40_000, 150_000, 0, smooth=5),
    Task(
        "breakout",
        "ALE/Breakout-v5",
        GAME,
        6000,
        1_200_000,
        2.5,
        smooth=5,
        log_every=20_000,
        stops=True,
    ),
)
RACES = tuple(task for task in TASKS if not task.stops)
PONG = Task("pong", "ALE/Pong-v5", GAME, 30_000)
PEER_ARMS = ((TWO, 16), ("2 workers, 4 games each", 4))
TORCH = "torch_a3c.py"


def main() -> None:
    args = parse_args()
    if args.game:
        play_game(args.game, args.minutes, args.timesteps, args.date)
    elif not (args.table or args.page):
        for kind in args.only:
            MEASURE[kind](args)
    if args.page:
        made = {name: table for name, (_, table) in TABLES.items()}
        for page in PAGES:
            page.write_text(with_tables(page.read_text(encoding="utf-8"), made), encoding="utf-8")
    print(report())


# Measuring


def measure(kind: str, name: str, arm: str, seed: int, command: list[str], args: argparse.Namespace) -> None:
    """One row, if the ledger has none."""
    row = {"kind": kind, "name": name, "arm": arm, "seed": seed, "scale": args.scale}
    if not args.again and not LEDGER.missing([row]):
        return
    began = ("--began", time.time()) if command[0] == sys.executable else ()  # peers do not ask
    found = timed_row([*command, *began], args.date)
    LEDGER.add([found | row])
    shown = {key: f"{found[key]:,.4g}" for key in ("updates_per_second", "seconds", "lost", "fused") if found.get(key)}
    beside = "" if found["others"] is None else f", beside {found['others']:.1f} busy cores"
    words = ", ".join(f"{key} {value}" for key, value in shown.items())
    progress(f"{kind}, {name}, {arm}, {seed}: {words}{beside}")


def timed_row(command: list[Any], date: str | None) -> Row:
    """What a command printed, with the day, the machine, and how many cores were busy with something else."""
    row = stamp(date)
    began, before = time.time(), busy_elsewhere()
    found = run_json(command, PJRT_NPROC="1")
    after, seconds = busy_elsewhere(), time.time() - began
    others = None if before is None or after is None else max(0.0, (after - before) / seconds)
    return row | found | {"others": others}


def training(task: Task, workers: int, steps: int, seed: int, *options: Any) -> list[str]:
    what = ["--env", task.env, "--workers", workers, "--timesteps", steps, "--seed", seed]
    recipe = {name: value for name, value in task.options.items() if workers or name != "engine"}
    return ours("async_run.py", "train", *what, "--options", json.dumps(recipe), *options)


def rates(args: argparse.Namespace) -> None:
    for task in chosen(args, TASKS):
        for number in range(args.rounds):
            for arm, workers in sorted(RATE_ARMS.items(), reverse=number % 4 > 1):  # both halves in both orders
                steps = int(task.rate_steps * args.scale * min(workers, 2))
                measure("rates", task.name, arm, number, training(task, workers, steps, number), args)


def races(args: argparse.Namespace) -> None:
    for task in chosen(args, TASKS):
        marks = ["--eval-every", task.eval_every, "--log-every", task.log_every]
        if task.stops:
            marks += ["--stop", task.reference, "--smooth", task.smooth]
        for seed in args.seeds[:LONG_RACES] if task.stops else args.seeds:
            for arm, workers in RACE_ARMS.items():
                if workers or not task.stops:
                    command = training(task, workers, int(task.race_steps * args.scale), seed, *marks)
                    measure("races", task.name, arm, seed, command, args)


def windows(args: argparse.Namespace) -> None:
    for task in chosen(args, TASKS):
        options = ("--env", task.env, "--options", json.dumps(task.options), "--windows", int(800 * args.scale))
        measure("windows", task.name, ONE, 0, ours("async_run.py", "windows", *options), args)


def lost(args: argparse.Namespace) -> None:
    measure("lost", "stress", TWO, 0, ours("async_run.py", "stress", "--windows", int(20_000 * args.scale)), args)
    for task in chosen(args, RACES):
        for seed in args.seeds[:5]:
            steps = ("--timesteps", int(task.rate_steps * args.scale), "--seed", seed)
            options = ("--env", task.env, "--options", json.dumps(task.options), *steps)
            measure("lost", task.name, TWO, seed, ours("async_run.py", "lost", *options), args)


def ray(args: argparse.Namespace) -> None:
    """Round trips with as many parameters as the windows have."""
    try:
        import ray  # noqa: F401
    except ImportError:
        progress("ray is not run: it is missing; install it with pip install 'policygrad[ray]'")
        return
    for task in chosen(args, TASKS):
        if window := one("windows", task.name):
            options = ("--params", window["parameters"], "--windows", int(400 * args.scale))
            measure("ray", task.name, ONE, 0, ours("async_run.py", "ray", *options), args)


def start(args: argparse.Namespace) -> None:
    """``policygrad train`` until CartPole-v1 is solved; the policy then plays on the real Gymnasium."""
    policygrad = (sys.executable, "-m", "policygrad")
    words = ("train", "CartPole-v1", "--algo", "a3c", "--workers", "2", "--stop-reward", f"{SOLVED:g}")
    words += ("--eval-every", "10000")
    for seed in args.seeds[:3]:
        row = {"kind": "start", "name": "cartpole", "arm": TWO, "seed": seed, "scale": 1.0}
        if not args.again and not LEDGER.missing([row]):
            continue
        row |= stamp(args.date)
        with tempfile.TemporaryDirectory() as folder:
            path, began = Path(folder) / "run", time.time()
            command = [*policygrad, *words, "--seed", str(seed), "--path", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
            if done.returncode:
                raise SystemExit(f"{' '.join(command)}\nfailed:\n{done.stderr[-2000:]}")
            seconds = (path / "checkpoints" / "best.safetensors").stat().st_mtime - began
            evaluate = [*policygrad, "eval", path, "--env", "gym:CartPole-v1", "--episodes", 100, "--json"]
            fresh = run_json(evaluate)["greedy"]["seeds"][0]["mean"]
        LEDGER.add([row | {"command": " ".join(("policygrad", *words)), "seconds": seconds, "fresh_return": fresh}])
        progress(f"start, seed {seed}: {seconds:.1f} s, then {fresh:.1f}")


def peer(args: argparse.Namespace) -> None:
    python = peer_python(args.peers, "sb3")
    if python is None:
        return
    steps = int(PONG.rate_steps * args.scale)
    theirs = [python, HERE / "peers" / TORCH, "--env", PONG.env, "--timesteps", steps // 2]
    commands = {arm: training(PONG._replace(options=PONG.options | {"n_envs": n}), 2, steps, 0) for arm, n in PEER_ARMS}
    for number in range(args.rounds):
        for arm, command in (commands | {TORCH: theirs}).items():
            measure("peer", PONG.name, arm, number, command, args)


MEASURE = {"rates": rates, "races": races, "start": start, "windows": windows, "lost": lost, "ray": ray, "peer": peer}


def chosen(args: argparse.Namespace, tasks: Sequence[Task]) -> list[Task]:
    return [task for task in tasks if not args.tasks or task.name in args.tasks]


# The paper's games


class Uniform:
    """A policy that draws every action uniformly."""

    def __init__(self, space: Any) -> None:
        self.space, self.rng = space, np.random.default_rng(0)

    def seed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def act(self, obs: Any, **_: Any) -> tuple[np.ndarray, None]:
        return self.rng.integers(self.space.n, size=len(obs)), None


def play_game(env: str, minutes: float, timesteps: int, date: str | None) -> None:
    """Train for so many minutes, over as many sessions as it takes; then trained, untrained and random policy play
    ``EPISODES`` sampled episodes each, on the game's own scale."""
    os.environ.setdefault("PJRT_NPROC", "1")
    import policygrad as pg

    path = ROOT / "runs" / "asynchronous" / env.replace("/", "-")
    mine = {"kind": "game", "name": env, "arm": TWO, "seed": 0, "scale": 1.0}
    known = LEDGER.select(**mine) if path.exists() else []
    row = known[-1] if known else {**mine, "minutes": 0.0, "curve": [], **stamp(date)}
    before, began, told = row["minutes"], time.monotonic(), [0.0]
    curve: list[list[float]] = list(row["curve"])

    def spent() -> float:
        return before + (time.monotonic() - began) / 60

    def mark(log: dict[str, Any]) -> bool:
        steps, ret = float(log["time/total_timesteps"].sum()), float(log["rollout/ep_rew_mean"].mean())
        if math.isfinite(ret) and (not curve or 60 * spent() - curve[-1][1] > 20):
            curve.append([steps, round(60 * spent(), 1), ret])
        if spent() - told[0] > 1 or spent() >= minutes:
            told[0] = spent()
            LEDGER.add([row | {"minutes": spent(), "steps": steps, "curve": curve}])
            progress(f"{env}: {spent():.1f} of {minutes:g} min, {steps:,.0f} steps, training return {ret:.1f}")
        return spent() < minutes

    options = PICTURES | {"workers": 2, "total_timesteps": timesteps, "eval_every": 0, "log_every": timesteps // 2000}
    run = pg.resume(path, callback=mark) if path.exists() else pg.train(env, "a3c", path=path, callback=mark, **options)
    row = LEDGER.select(**mine)[-1]
    LEDGER.add([row | judged_game(run, env)])


def judged_game(run: Any, env: str) -> Row:
    """Mean, 95 % interval and every return of three policies, in the same episodes' seeds."""
    from policygrad.envs import host
    from policygrad.run import train as loop
    from policygrad.run.evaluate import evaluate_host
    from policygrad.run.policy import Policy

    program, found = run.program, {}
    fresh = loop.start(program)
    spaces = program.raw_env.observation_space, program.raw_env.action_space
    policies = {
        "trained": Policy(program.model(run.state), *spaces),
        "untrained": Policy(program.model(fresh.state), *spaces),
        "random": Uniform(program.raw_env.action_space),
    }
    for name, policy in policies.items():
        games = host.make(env, 8, training=False)
        try:
            played = evaluate_host(policy, games, EPISODES, seed=1_000_000, deterministic=False)
        finally:
            games.close()
        low, high = played.interval
        found[name] = {"mean": played.mean, "low": low, "high": high, "returns": played.returns.tolist()}
        progress(f"{env}, {name}: {played.mean:.1f} ({low:.1f} to {high:.1f})")
    return {"episodes": EPISODES, "sampled": True, "policies": found, "run": str(run.path.relative_to(ROOT))}


# The tables


def rows_of(kind: str, name: str, arm: str | None = None) -> list[Row]:
    """Rows at full budget, by seed."""
    found = LEDGER.select(kind=kind, name=name, **({} if arm is None else {"arm": arm}))
    return sorted((row for row in found if row.get("scale", 1) == 1), key=lambda row: row["seed"])


def one(kind: str, name: str) -> Row | None:
    return next(iter(rows_of(kind, name)), None)


def report() -> str:
    """Everything, as Markdown."""
    return "\n\n".join(f"**{title}**\n\n{table()}" for title, table in TABLES.values())


def rate_table() -> str:
    columns = ("task", "1 worker", "2 workers", "ratio", "rounds", "bar", "", "steps/s, 2 workers")
    columns += ("staleness, mean", "p95", "n", "others", "date")
    return markdown(columns, [rate_line(task) for task in TASKS])


def rate_line(task: Task) -> list[Any]:
    first, second = ({row["seed"]: row for row in rows_of("rates", task.name, arm)} for arm in (ONE, TWO))
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return [task.name, None, "", "", "", f"≥ {RATE_BAR} ×", "", "", "", "", 0, "", ""]
    two, one_alone, ratio, spread = compared(second, first, "updates_per_second")
    mean, p95 = staleness([second[i] for i in shared])
    return [
        task.name,
        f"{one_alone:,.0f}",
        f"{two:,.0f}",
        f"{ratio:.2f}",
        spread,
        f"≥ {RATE_BAR} ×",
        verdict(ratio, ratio >= RATE_BAR),
        f"{median(second[i]['steps_per_second'] for i in shared):,.0f}",
        f"{mean:.2f}",
        f"{p95:.0f}",
        len(shared),
        busiest([rows[i] for i in shared for rows in (first, second)]),
        second[shared[-1]]["date"],
    ]


def compared(
    mine: Mapping[int, Row], theirs: Mapping[int, Row], what: str, digits: int = 2
) -> tuple[float, float, float, str]:
    """Of the rounds that both have: the two medians, their ratio, and the lowest and the highest of a single round."""
    both = [(mine[i][what], theirs[i][what]) for i in sorted(mine.keys() & theirs.keys())]
    we, they = (median(values) for values in zip(*both))
    each = [a / b for a, b in both]
    return we, they, we / they, f"{min(each):.{digits}f} to {max(each):.{digits}f}"


def busiest(rows: Sequence[Row]) -> str:
    """How many cores were busy with something else during the worst of these measurements, on average."""
    known = [row["others"] for row in rows if row.get("others") is not None]
    return f"{max(known):.1f}" if known else ""


def staleness(rows: Sequence[Row]) -> tuple[float, float]:
    """``(mean, 95 % quantile)`` of all gradients of these runs."""
    bins = np.sum([row["staleness"] for row in rows], axis=0)
    return float(bins @ np.arange(len(bins)) / bins.sum()), float(np.searchsorted(bins.cumsum(), 0.95 * bins.sum()))


def curve_of(row: Row, task: Task) -> np.ndarray:
    """``[points, 3]``: steps, seconds since the first row, score (a running mean over ``smooth`` rows)."""
    curve = np.asarray(row["curve"], float)
    sums = np.cumsum(np.insert(curve[:, 2], 0, 0.0))
    begin = np.maximum(np.arange(1, len(curve) + 1) - task.smooth, 0)
    curve[:, 2] = (sums[1:] - sums[begin]) / (np.arange(1, len(curve) + 1) - begin)
    return curve[task.smooth - 1 :]


def seconds_to(row: Row, task: Task) -> float:
    """Seconds until the reference score; NaN: never."""
    curve = curve_of(row, task)
    reached = curve[curve[:, 2] >= task.reference, 1]
    return float(reached[0]) if len(reached) else math.nan


def reference_table() -> str:
    columns = ("task", "score", *RACE_ARMS, "1 over 2", "95 % interval", "bar", "", "reached", "n", "others", "date")
    return markdown(columns, [reference_line(task) for task in TASKS])


def reference_line(task: Task) -> list[Any]:
    from policygrad.run.statistics import bootstrap_interval

    runs = {arm: {row["seed"]: row for row in rows_of("races", task.name, arm)} for arm in RACE_ARMS}
    score, bar = f"≥ {task.reference:g}", "" if task.stops else f"≥ {RACE_BAR} ×"
    seeds = sorted(runs[ONE].keys() & runs[TWO].keys())
    if not seeds:
        return [task.name, score, None, "", "", "", "", bar, "", "", 0, "", ""]
    times = {arm: {seed: seconds_to(row, task) for seed, row in found.items()} for arm, found in runs.items()}
    reached = {arm: [x for x in found.values() if math.isfinite(x)] for arm, found in times.items()}
    both = np.array([[times[ONE][seed], times[TWO][seed]] for seed in seeds])
    both = both[np.isfinite(both).all(axis=1)]
    never = {arm: "never" if found else "" for arm, found in runs.items()}
    shown = [f"{fmean(found):.2f} s" if found else never[arm] for arm, found in reached.items()]
    counts = ", ".join(str(len(found)) for found in reached.values())
    others = busiest([found[seed] for found in (runs[ONE], runs[TWO]) for seed in seeds])
    tail = (counts, len(seeds), others, runs[TWO][seeds[-1]]["date"])
    if not len(both):
        return [task.name, score, *shown, None, "", bar, "", *tail]
    quotient = lambda x, axis=0: x.mean(axis)[..., 0] / x.mean(axis)[..., 1]  # noqa: E731
    ratio, (low, high) = float(quotient(both)), bootstrap_interval(both, quotient)
    interval = f"{low:.2f} to {high:.2f}" if len(both) > 1 else ""
    passes = None if task.stops else ratio >= RACE_BAR
    return [task.name, score, *shown, f"{ratio:.2f}", interval, bar, verdict(ratio, passes), *tail]


def start_table() -> str:
    rows = rows_of("start", "cartpole")
    columns = ("seconds, median", "each", "100 fresh episodes, worst", "bar", "", "n", "load", "date")
    if not rows:
        return markdown(columns, [[None, "", "", f"≤ {START_BAR:g}", "", 0, "", ""]])
    seconds, worst = [row["seconds"] for row in rows], min(row["fresh_return"] for row in rows)
    passes = median(seconds) <= START_BAR and worst >= SOLVED
    each, load = ", ".join(f"{x:.1f}" for x in sorted(seconds)), max(row["machine"]["load"] for row in rows)
    cells = [f"{worst:.1f}", f"≤ {START_BAR:g}", verdict(1.0, passes), len(rows), load, rows[-1]["date"]]
    return markdown(columns, [[f"{median(seconds):.1f}", each, *cells]])


def equal_table() -> str:
    columns = ("task", "arm", "equal steps", "score", "95 % interval", "equal seconds", "score", "95 % interval", "n")
    return markdown(columns, [line for task in RACES for line in equal_lines(task)])


def equal_lines(task: Task) -> list[list[Any]]:
    """Scores over the last fifth of the steps, and over the last fifth of the seconds that the quickest arm takes."""
    runs = {arm: rows_of("races", task.name, arm) for arm in RACE_ARMS}
    if not all(runs.values()):
        return [[task.name, arm, "", None, "", "", "", "", len(found)] for arm, found in runs.items()]
    limit = min(median(row["seconds"] for row in found) for found in runs.values())
    lines = []
    for arm, found in runs.items():
        curves = [curve_of(row, task) for row in found]
        steps = [last_score(curve, 0, task.race_steps) for curve in curves]
        seconds = [last_score(curve, 1, limit) for curve in curves]
        cells = (f"{task.race_steps:,}", *with_interval(steps), f"{limit:.1f}", *with_interval(seconds))
        lines.append([task.name, arm, *cells, len(found)])
    return lines


def last_score(curve: np.ndarray, by: int, limit: float) -> float:
    """Mean score of the rows in the last fifth before ``limit``; where there is none, of the last row before it."""
    before = curve[curve[:, by] <= limit * 1.001]
    inside = before[before[:, by] > (1 - LAST) * limit]
    return float((inside if len(inside) else before[-1:])[:, 2].mean()) if len(before) else math.nan


def with_interval(scores: Sequence[float]) -> tuple[str, str]:
    from policygrad.run.statistics import bootstrap_interval

    low, high = bootstrap_interval(np.asarray(scores))
    return f"{np.mean(scores):.1f}", f"{low:.1f} to {high:.1f}" if math.isfinite(low) else ""


def peer_table() -> str:
    columns = ("games of a worker", "ours, steps/s", f"{TORCH}, steps/s", "ratio", "rounds", "bar", "", "n", "others")
    return markdown((*columns, "date"), [peer_line(arm, n) for arm, n in PEER_ARMS])


def peer_line(arm: str, n: int) -> list[Any]:
    mine, theirs = ({row["seed"]: row for row in rows_of("peer", PONG.name, who)} for who in (arm, TORCH))
    shared, bar = sorted(mine.keys() & theirs.keys()), PEER_BAR if arm == TWO else None
    wanted = "" if bar is None else f"≥ {bar:g} ×"
    if not shared:
        return [n, None, "", "", "", wanted, "", 0, "", ""]
    we, peers, ratio, spread = compared(mine, theirs, "steps_per_second")
    others = busiest([rows[i] for i in shared for rows in (mine, theirs)])
    tail = (verdict(ratio, None if bar is None else ratio >= bar), len(shared), others, mine[shared[-1]]["date"])
    return [n, f"{we:,.0f}", f"{peers:,.0f}", f"{ratio:.2f}", spread, wanted, *tail]


def window_table() -> str:
    columns = ("task", "parameters", "rows", "window and gradient", "step", "add", "copy", "sum")
    columns += ("the same in a loop inside XLA (a2c)", "others", "date")
    return markdown(columns, [window_line(task) for task in TASKS])


def window_line(task: Task) -> list[Any]:
    row = one("windows", task.name)
    if row is None:
        return [task.name, "", "", None, "", "", "", "", "", "", ""]
    parts = [1e6 * row["medians"][name] for name in ("play", "step", "add", "copy")]
    fused = "" if row["fused"] is None else f"{1e6 * row['fused']:.0f}"
    numbers = [f"{x:,.0f}" for x in (row["parameters"], row["rows"], *parts, sum(parts))]
    return [task.name, *numbers, fused, busiest([row]), row["date"]]


def lost_table() -> str:
    columns = ("who adds", "parameters", "updates", "lost, median", "worst", "torn numbers", "n", "date")
    names = {"stress": "two processes that do nothing else"} | {task.name: f"{task.name}, 2 workers" for task in RACES}
    return markdown(columns, [[words, *lost_cells(rows_of("lost", name))] for name, words in names.items()])


def lost_cells(rows: Sequence[Row]) -> list[Any]:
    if not rows:
        return [None, "", "", "", "", 0, ""]
    shares, last = [row["lost"] for row in rows], rows[-1]
    sizes = (f"{last['parameters']:,}", f"{last['updates']:,}")
    return [*sizes, f"{median(shares):.1g}", f"{max(shares):.1g}", last.get("torn", ""), len(rows), last["date"]]


# The simulation


def measured(task: Task, arms: Sequence[str], parity: int | None = None) -> list[Any]:
    """Rates of these arms; of the even or the odd rounds."""
    from policygrad.parallel.simulate import Measured

    rows = [row for arm in arms for row in rows_of("rates", task.name, arm)]
    rows = [row for row in rows if parity is None or row["seed"] % 2 == parity]
    return [Measured(RATE_ARMS[row["arm"]], row["updates_per_second"]) for row in rows]


def fitted(task: Task, parity: int | None = 0) -> Any:
    """This machine, from rates with 1 and 2 workers and the spread of a window; None: not measured."""
    from policygrad.parallel.simulate import Times, fit, shared_memory

    window, rates = one("windows", task.name), measured(task, (ONE, TWO), parity)
    if window is None or {row.workers for row in rates} != {1, 2}:
        return None
    quantiles = window["quantiles"]
    play = Times(fmean(quantiles), float(np.std(quantiles) / np.mean(quantiles)), tuple(quantiles))
    return fit(shared_memory(play, cores=os.cpu_count() or 1, rows=window["rows"]), rates)


def check_table() -> str:
    """Fitted on the even rounds with 1 and 2 workers; held against the odd rounds, and against 3 and 4 workers."""
    columns = ("task", "σ", "workers", "measured, updates/s", "predicted", "error", "within 10 %")
    return markdown(columns, [line for task in TASKS for line in check_lines(task)])


def check_lines(task: Task) -> list[list[Any]]:
    from policygrad.parallel.simulate import agrees, compare

    system, others = fitted(task), [arm for arm in RATE_ARMS if arm not in (ONE, TWO)]
    unseen = measured(task, (ONE, TWO), 1) + measured(task, others)
    if system is None or not unseen:
        return [[task.name, "", "", None, "", "", ""]]
    return [
        [
            task.name,
            f"{system.contention:.3f}",
            row.workers,
            f"{row.measured:,.0f}",
            f"{row.predicted:,.0f}",
            f"{row.error:+.1%}",
            "yes" if agrees([row]) else "NO",
        ]
        for row in compare(system, unseen)
    ]


def systems(task: Task) -> dict[str, Any]:
    """The ways to use many machines, from what was measured on this one; empty: not measured."""
    from policygrad.parallel.simulate import Times, one_learner, shared_memory

    window, server, here = one("windows", task.name), through_ray(task.name), fitted(task, None)
    if window is None or server is None or here is None:
        return {}
    parts, rows = window["medians"], window["rows"]
    found = {
        "one machine, 64 cores": shared_memory(here.play, 64, contention=here.contention, rows=rows),
        "gradients, 1 shard": server,
        "gradients, 16 shards": replace(server, shards=16),
    }
    share = next((row["shares"] for row in rows_of("rates", task.name, ONE)), {})
    if share.get("acting"):
        acting = share["acting"] / (share["acting"] + share["gradient"])
        learning = Times((1 - acting) * parts["play"] + parts["step"], 0.2)
        found["trajectories, 1 learner"] = one_learner(
            server.play._replace(mean=acting * parts["play"]),
            server.transfer,
            learning,
            rows=rows,
            message=server.message,
        )
    return found


def through_ray(name: str) -> Any:
    """Workers of a task that send gradients to one server, from times that were measured apart; None: not yet."""
    from policygrad.parallel.simulate import Times, parameter_server

    window, trip = one("windows", name), one("ray", name)
    if window is None or trip is None:
        return None
    return parameter_server(
        Times(window["medians"]["play"], min(1.0, window["spread"])),
        Times(max(0.0, trip["round_trip"] - trip["handled"] - trip["message"]) / 2, 0.5),
        Times(window["medians"]["step"] + trip["handled"], 0.2),
        rows=window["rows"],
        message=trip["message"],
    )


def forecast_tables() -> str:
    """Steps per second and mean staleness; simulated."""
    return "\n\n".join(forecast_table(task) for task in TASKS)


def forecast_table(task: Task) -> str:
    from policygrad.parallel.simulate import saturation, simulate

    columns = (f"{task.name} (simulated)", "saturates at", *(f"{n:,}" for n in FORECAST))
    lines = []
    for name, system in systems(task).items():
        runs = [simulate(system, n) for n in FORECAST]
        lines.append(
            [f"{name}: steps/s", f"{saturation(system):,.0f}", *(rounded(run.steps_per_second) for run in runs)]
        )
        lines.append(["… mean staleness", "", *(rounded(run.staleness_mean) for run in runs)])
    return markdown(columns, lines or [[None] + [""] * (len(columns) - 1)])


def rounded(x: float) -> str:
    """Three digits: a forecast has no more."""
    return f"{float(f'{x:.3g}'):,.0f}" if x >= 10 else f"{x:.1f}"


def game_table() -> str:
    columns = ("game", "minutes", "steps", "trained", "untrained", "random", "episodes", "date")
    rows = LEDGER.select(kind="game")
    return markdown(columns, [game_line(row) for row in rows] or [[None, "", "", "", "", "", "", ""]])


def game_line(row: Row) -> list[Any]:
    found = row.get("policies", {})
    cell = lambda what: f"{what['mean']:.1f} ({what['low']:.1f} to {what['high']:.1f})"  # noqa: E731
    played = [cell(found[name]) if name in found else None for name in ("trained", "untrained", "random")]
    numbers = (f"{row['minutes']:.0f}", f"{row.get('steps', 0):,.0f}")
    return [row["name"], *numbers, *played, row.get("episodes", ""), row["date"]]


TABLES = {
    "rates": ("Updates per second", rate_table),
    "reference": ("Time to a reference score", reference_table),
    "start": ("CartPole-v1 to 475 from the start of the process", start_table),
    "equal": ("Equal steps, equal time", equal_table),
    "peer": ("Against A3C in PyTorch", peer_table),
    "windows": ("The parts of a window, in µs", window_table),
    "lost": ("Lost updates", lost_table),
    "check": ("The simulation against measurements", check_table),
    "forecasts": ("Forecasts", forecast_tables),
    "games": ("Games", game_table),
}


def parse_args() -> argparse.Namespace:
    made = parser(__doc__)
    add = made.add_argument
    names = [task.name for task in TASKS]
    add("--only", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help=f"of {', '.join(KINDS)} (default: all)")
    add("--tasks", nargs="+", choices=names, metavar="TASK", help=f"of {', '.join(names)} (default: all)")
    add_peers(made)
    add("--rounds", type=int, default=4, metavar="N", help="of rates, and against the peer (default: 4)")
    add("--seeds", type=seeds_of, default=list(range(20)), metavar="A:B", help="of races (default: 0:20)")
    add("--scale", type=float, default=1.0, metavar="X", help="multiply all budgets, to try it out: no rows of a table")
    add("--again", action="store_true", help="measure anew what is in the ledger")
    add("--game", metavar="ENV", help="train on one game, such as ALE/Breakout-v5, and judge it")
    add("--minutes", type=float, default=45.0, help="of the game's training, over all sessions (default: 45)")
    add("--timesteps", type=int, default=8_000_000, help="the game's budget: its learning rate falls to 0 over it")
    add("--page", action="store_true", help="measure nothing; write the tables into the docs")
    add("--table", action="store_true", help="measure nothing; print the last results")
    return made.parse_args()


if __name__ == "__main__":
    main()
