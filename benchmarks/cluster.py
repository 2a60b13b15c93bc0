"""Workers on Ray, all of them on this machine: steps per second, beside RLlib's, and against the simulation.

    python benchmarks/cluster.py --peers DIR             # whatever is missing in the ledger; `make peers` first
    python benchmarks/cluster.py --rounds 3 --again
    python benchmarks/cluster.py --rounds 8 --only "40 steps"   # rounds that the simulation is held against
    python benchmarks/cluster.py --table                 # the last results again, as Markdown
    python benchmarks/cluster.py --page                  # the tables into docs/18 and docs/20

CartPole-v1, 64-64 networks. *gradients*: the preset ``a3c`` with ``engine=ray``; *trajectories*: the preset ``impala``.
RLlib's IMPALA and APPO have as many actors that step environments, 1 or 8 environments each; the quicker counts. All
take turns, each twice in two rounds, in fresh processes, start-up and compiling outside the clock. Rows go to
results/cluster.json as they come. The simulation is fitted to what lies between each run's even log rows and the next,
and held against what lies between the odd ones.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, NamedTuple

from asynchronous import busiest, compared, through_ray, timed_row
from common import HERE, RESULTS, ROOT, add_peers, ours, parser, peer_python, progress
from ledger import Ledger, Row, markdown, verdict, with_tables

LEDGER = Ledger(RESULTS / "cluster.json", key=("arm", "workers", "round", "scale"))
PAGES = tuple(ROOT / "docs" / name for name in ("18-many-machines.md", "20-scaling.md"))
WORKERS = (1, 2, 3, 4)
RAY = {"engine": "ray", "lr_schedule": "constant"}
LARGE = {"n_envs": 32, "n_steps": 32}


class Way(NamedTuple):
    """One way to use workers on Ray."""

    algo: str
    options: dict[str, Any]
    budget: int
    """Steps of a rate, for each of the first two workers."""
    workers: Sequence[int] = WORKERS


GRADIENTS = "gradients, windows of 40 steps"
WAYS = {
    GRADIENTS: Way("a3c", RAY, 120_000),
    "gradients, windows of 1,024 steps": Way("a3c", RAY | LARGE, 600_000, (1, 2)),
    "trajectories, windows of 1,024 steps": Way("impala", RAY | LARGE, 600_000),
}
PEERS = {
    "RLlib IMPALA, 1 environment": ("impala", 1),
    "RLlib IMPALA, 8 environments": ("impala", 8),
    "RLlib APPO, 8 environments": ("appo", 8),
}
RUNNERS, BAR = 2, 10.0
SECONDS = 20.0
"""Of a peer's training, timed; as many before to warm up."""


def main() -> None:
    args = parse_args()
    if not (args.table or args.page):
        for number in range(0, args.rounds, 2):
            measure_pair((number, number + 1), args)
    if args.page:
        for page in PAGES:
            page.write_text(with_tables(page.read_text(encoding="utf-8"), TABLES), encoding="utf-8")
    print("\n\n".join(table() for table in TABLES.values()))


# Measuring


def measure_pair(pair: tuple[int, int], args: argparse.Namespace) -> None:
    """Everyone twice, one right after the other, in both orders: a machine's speed drifts within minutes."""
    for i, (arm, workers, command) in enumerate(everyone(args)):
        for number in pair if (i + pair[0] // 2) % 2 else reversed(pair):
            measure(arm, workers, number, [*command, "--seed", number] if arm in WAYS else command, args)


def everyone(args: argparse.Namespace) -> Iterator[tuple[str, int, list[Any]]]:
    """``(arm, workers, command)``."""
    python = peer_python(args.peers, "rllib") if any(args.only in arm for arm in PEERS) else None
    for arm, (algo, n_envs) in PEERS.items():
        if python and args.only in arm:
            seconds = ("--warmup", SECONDS * args.scale, "--seconds", SECONDS * args.scale)
            command = [python, HERE / "peers" / "rllib.py", "--algo", algo, "--n-envs", n_envs, "--runners", RUNNERS]
            yield arm, RUNNERS, [*command, *seconds]
    for workers in WORKERS:
        for arm, way in WAYS.items():
            if workers in way.workers and args.only in arm:
                steps = int(way.budget * min(workers, 2) * args.scale)
                what = ("--env", "CartPole-v1", "--algo", way.algo, "--options", json.dumps(way.options))
                yield arm, workers, ours("async_run.py", "train", *what, "--workers", workers, "--timesteps", steps)


def measure(arm: str, workers: int, number: int, command: Sequence[Any], args: argparse.Namespace) -> None:
    """One row, if the ledger has none."""
    row = {"arm": arm, "workers": workers, "round": number, "scale": args.scale}
    if args.again or LEDGER.missing([row]):
        found = timed_row(list(command), args.date)
        LEDGER.add([found | row])
        progress(f"round {number}, {arm}, {workers}: {found['steps_per_second']:,.0f} steps/s")


# The tables


def rows_of(arm: str, workers: int) -> list[Row]:
    """Rows at full budget, by round."""
    return sorted(LEDGER.select(arm=arm, workers=workers, scale=1.0), key=lambda row: row["round"])


def speed(rows: Sequence[Row]) -> float:
    return median(row["steps_per_second"] for row in rows)


def rate_table() -> str:
    """Steps per second by the number of workers, and the ratio to RLlib's better IMPALA with as many actors."""
    columns = ["who", *(f"{n} worker{'s' * (n > 1)}" for n in WORKERS), "2 workers / RLlib IMPALA", "rounds", "bar", ""]
    return markdown([*columns, "n", "others", "date"], [rate_line(arm) for arm in (*WAYS, *PEERS)])


def rate_line(arm: str) -> list[Any]:
    found = {n: rows_of(arm, n) for n in WORKERS}
    every = [row for rows in found.values() for row in rows]
    if not every:
        return [arm, None, *[""] * 7, 0, "", ""]
    cells = [f"{speed(rows):,.0f}" if rows else "" for rows in found.values()]
    tail = [max(map(len, found.values())), busiest(every), max(row["date"] for row in every)]
    return [arm, *cells, *(ratio_cells(found[RUNNERS]) if arm in WAYS else [""] * 4), *tail]


def ratio_cells(rows: Sequence[Row]) -> list[Any]:
    """Ours over RLlib's better IMPALA: of the medians, and round by round."""
    theirs = [rows_of(arm, RUNNERS) for arm, (algo, _) in PEERS.items() if algo == "impala"]
    best = max((found for found in theirs if found), key=speed, default=[])
    mine, peers = ({row["round"]: row for row in found} for found in (rows, best))
    if not mine.keys() & peers.keys():
        return [None, "", f"≥ {BAR:g} ×", ""]
    _, _, ratio, spread = compared(mine, peers, "steps_per_second", digits=1)
    return [f"{ratio:.1f}", spread, f"≥ {BAR:g} ×", verdict(ratio, ratio >= BAR)]


def check_table() -> str:
    """The simulation of workers that send gradients, fitted on one half of each run, held against the other."""
    columns = ("workers", "measured, updates/s", "predicted", "error", "within 10 %")
    return markdown(columns, check_lines() or [[None, "", "", "", ""]])


def check_lines() -> list[list[Any]]:
    from policygrad.parallel.simulate import agrees, compare, fit, shared_memory

    server, even, odd = through_ray("cartpole"), measured(0), measured(1)
    if server is None or not odd or 1 not in {row.workers for row in even}:
        return []
    system = shared_memory(server.play, os.cpu_count() or 1, rows=server.rows)  # the same cores carry the messages
    return [
        [
            row.workers,
            f"{row.measured:,.0f}",
            f"{row.predicted:,.0f}",
            f"{row.error:+.1%}",
            "yes" if agrees([row]) else "NO",
        ]
        for row in compare(fit(system, even), odd)
    ]


def measured(half: int) -> list[Any]:
    """Rates of the workers that send gradients, in one half of each run. Rows without halves are older than these."""
    from policygrad.parallel.simulate import Measured

    rows = [(n, row) for n in WORKERS for row in rows_of(GRADIENTS, n) if row.get("halves")]
    return [Measured(n, row["halves"][half]) for n, row in rows]


TABLES = {"ray-rates": rate_table, "ray-check": check_table}


def parse_args() -> argparse.Namespace:
    made = parser(__doc__)
    add_peers(made)
    add = made.add_argument
    add("--rounds", type=int, default=2, metavar="N", help="an even number; default: 2")
    add("--only", default="", metavar="TEXT", help="those whose name holds it, such as '40 steps'")
    add("--scale", type=float, default=1.0, metavar="X", help="multiply all budgets, to try it out: no rows of a table")
    add("--again", action="store_true", help="measure anew what is in the ledger")
    add("--page", action="store_true", help="measure nothing; write the tables into the docs")
    add("--table", action="store_true", help="measure nothing; print the last results")
    return made.parse_args()


if __name__ == "__main__":
    main()
