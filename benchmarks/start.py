"""How soon a policy that solves CartPole-v1 is on the disk, counted from the start of the process.

    python benchmarks/start.py                              # seeds 0, 1 and 2
    python benchmarks/start.py --seeds 0:5 -- --n-envs 64   # what follows -- goes to policygrad train
    python benchmarks/start.py --table                      # the last results again, as Markdown

For every seed: ``policygrad train`` with an empty compilation cache ("cold"), again with the cache which that left
("warm"), and Stable-Baselines3's ``--until-solved`` beside them. Importing, compiling, evaluating and writing count.
Our clock starts with the process and stops when ``best.safetensors`` is saved for the last time; the end of the
process, picture included, is shown beside it. The peer's starts when Python is up, and stops when its policy is saved.
The evaluation that stops a run was picked for being high, so 100 fresh greedy episodes on the real Gymnasium decide
whether the policy solves the task. Rows are appended to results/start.json.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from common import HERE, RESULTS, add_peers, parser, peer_python, progress, run_json, seeds_of, stamp
from ledger import Ledger, Row, markdown, verdict

LEDGER = Ledger(RESULTS / "start.json")
ENV, SOLVED, EPISODES = "CartPole-v1", 475.0, 100
POLICYGRAD = (sys.executable, "-m", "policygrad")
TRAIN = ("--algo", "a2c", "--stop-reward", f"{SOLVED:g}", "--total-timesteps", "500000", "--eval-every", "10000")
BARS = {"cold": 7.0, "warm": 4.0}
"""Seconds."""
FIRST_LINE = 2.0
"""Seconds."""


def main() -> None:
    args = parse_args()
    if not args.table:
        session = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        for seed in args.seeds:
            measure(seed, session, args)
    print(report())


def measure(seed: int, session: str, args: argparse.Namespace) -> None:
    """One seed: cold, warm, and the peer."""

    def add(measured: Callable[..., Row], *what: Any) -> None:
        """Into the ledger at once, so that an interrupted session keeps what it has."""
        marks = {"session": session, **stamp(args.date)}  # the load, before it is ours
        row = measured(*what) | marks
        LEDGER.add([row])
        words = "solved" if row["solved"] else "NOT solved"
        progress(f"seed {seed}, {row['name']}: {row['seconds']:.1f} s, {words} ({row['fresh_return']:.1f})")

    with tempfile.TemporaryDirectory() as folder:
        for cache in BARS:  # the warm run follows the cold one and finds its cache
            add(train, Path(folder), cache, seed, args.options)
    for algo in args.peer_algos:
        if python := peer_python(args.peers, "sb3"):
            add(train_peer, python, algo, seed, args.peer_timesteps)


def train(folder: Path, cache: str, seed: int, options: list[str]) -> Row:
    """One run in a fresh process, and what its policy is worth."""
    path, lines = folder / cache, folder / f"{cache}.txt"
    environment = {**os.environ, "POLICYGRAD_CACHE": str(folder / "cache")}
    command = [*POLICYGRAD, "train", ENV, *TRAIN, "--seed", str(seed), "--path", str(path), *options]
    began, clock = time.time(), time.perf_counter()
    with open(lines, "w", encoding="utf-8") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment)
        process.stdout.readline()
        first_line = time.perf_counter() - clock
        process.stdout.read()
        process.wait()
    seconds = time.perf_counter() - clock
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\nfailed:\n{lines.read_text(encoding='utf-8')[-2000:]}")
    evaluate = [*POLICYGRAD, "eval", path, "--env", f"gym:{ENV}", "--episodes", EPISODES, "--json"]
    greedy = run_json(evaluate, **environment)["greedy"]["seeds"][0]
    return {
        "name": cache,
        "command": " ".join(["policygrad", "train", ENV, *TRAIN, *options]),
        "seed": seed,
        "first_line": first_line,
        "seconds": (path / "checkpoints" / "best.safetensors").stat().st_mtime - began,
        "until_exit": seconds,
        "fresh_return": greedy["mean"],
        "episodes": EPISODES,
        "solved": greedy["mean"] >= SOLVED,
    }


def train_peer(python: Path, algo: str, seed: int, timesteps: int | None) -> Row:
    """Stable-Baselines3 with the Zoo's settings."""
    command = [python, HERE / "peers" / "sb3.py", "--algo", algo, "--until-solved", "--seed", seed]
    found = run_json(command + (["--timesteps", timesteps] if timesteps else []))
    return {
        "name": f"sb3 {algo}",
        "command": f"sb3.py --algo {algo} --until-solved",
        "seed": seed,
        "seconds": found["seconds"],
        "fresh_return": found["fresh_return"],
        "episodes": EPISODES,
        "solved": found["solved"] and found["fresh_return"] >= SOLVED,
        "peer_version": found["version"],
    }


def report() -> str:
    """The last session, as Markdown: medians over seeds."""
    everything = LEDGER.rows
    session = everything[-1]["session"] if everything else None
    rows = [row for row in everything if row["session"] == session]
    peers = sorted({row["name"] for row in rows} - set(BARS))
    columns = ("start", "seconds", "each seed", "bar", "", "solved", "n", "first line", "until exit", "load", "date")
    return markdown(columns, [line(name, [row for row in rows if row["name"] == name]) for name in (*BARS, *peers)])


def line(name: str, rows: list[Row]) -> list[Any]:
    bar = BARS.get(name)
    shown = "" if bar is None else f"≤ {bar:g}"
    if not rows:
        return [name, None, "", shown, "", "", 0, "", "", "", ""]
    seconds, solved = [row["seconds"] for row in rows], sum(row["solved"] for row in rows)
    middle = median(seconds)
    passes = None if bar is None else middle <= bar and solved == len(rows)
    return [
        name,
        f"{middle:.1f}",
        ", ".join(f"{value:.1f}" for value in sorted(seconds)),
        shown,
        verdict(middle, passes),
        f"{solved} of {len(rows)}",
        len(rows),
        first_line(rows),
        f"{median(row['until_exit'] for row in rows):.1f}" if bar else "",
        max(row["machine"]["load"] for row in rows),
        rows[0]["date"],
    ]


def first_line(rows: list[Row]) -> str:
    """The slowest first line, judged; nothing for the peer."""
    slowest = max((row.get("first_line", 0.0) for row in rows), default=0.0)
    return f"{slowest:.2f} {verdict(slowest, slowest <= FIRST_LINE)}" if slowest else ""


def parse_args() -> argparse.Namespace:
    made = parser(__doc__)
    add_peers(made)
    made.add_argument("--seeds", type=seeds_of, default=[0, 1, 2], metavar="A:B", help="default: 0:3")
    made.add_argument("--peer-algos", nargs="*", choices=("a2c", "ppo"), default=["a2c", "ppo"], help="default: both")
    made.add_argument("--peer-timesteps", type=int, metavar="N", help="the peer's budget (default: the Zoo's)")
    made.add_argument("--table", action="store_true", help="measure nothing; print the last results")
    made.add_argument("options", nargs="*", metavar="-- OPTION", help="further options of policygrad train")
    return made.parse_args()


if __name__ == "__main__":
    main()
