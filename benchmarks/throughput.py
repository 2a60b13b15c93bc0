"""How fast training is: environment steps per second, as a ratio to a peer measured in the same run.

    python benchmarks/throughput.py                         # every row, three rounds
    python benchmarks/throughput.py --only a2c-8x5 --repeat 5
    python benchmarks/throughput.py --table                 # the last results again, as Markdown

Every measurement is a fresh process; ours and the peer's take turns (A B A B). A row's ratio is that of the medians;
the ratios of the single rounds are shown beside it. Ours runs with XLA's default threads and with one, the peer in the
ways that its README offers: the better of each counts, and the table says which. Start-up and compiling are in neither
rate. Rows are appended to results/throughput.json.
"""

import argparse
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from common import RESULTS, add_peers, ours, parser, peer_python, progress, run_json, stamp
from ledger import Ledger, Row, markdown, verdict

LEDGER = Ledger(RESULTS / "throughput.json")
OURS_THREADS = {"default threads": 0, "PJRT_NPROC=1": 1}


class Peer(NamedTuple):
    """One way to run a peer's script."""

    env: str
    """Its environment: a folder of the peers."""
    script: str
    options: str
    timesteps: int
    """Budget, of each seed."""


class Race(NamedTuple):
    """Ours against a peer."""

    name: str
    options: str
    timesteps: int
    """Our budget, of each seed."""
    peers: tuple[Peer, ...]
    """The quickest of them is the peer."""
    bar: float | None
    """The ratio that we want; None: shown only."""


SB3_A2C = (Peer("sb3", "sb3.py", "--algo a2c", 40_000),)
SB3_LANDER = (Peer("sb3", "sb3.py", "--algo a2c --env LunarLander-v3", 20_000),)
REJAX = tuple(Peer("rejax", "rejax_ppo.py", f"--threads {threads}", 256_000) for threads in (0, 1))
REJAX_8 = tuple(Peer("rejax", "rejax_ppo.py", f"--threads {threads} --seeds 8", 64_000) for threads in (0, 1))

RACES = (
    Race("a2c-8x5", "--algo a2c --n-envs 8 --n-steps 5", 2_000_000, SB3_A2C, 40),
    Race("a2c-64x16", "--algo a2c --n-envs 64 --n-steps 16", 6_000_000, SB3_A2C, 100),
    Race("ppo-4x128", "--algo ppo --n-envs 4 --n-steps 128", 1_000_000, REJAX, 1.3),
    Race("ppo-4x128-8-seeds", "--algo ppo --n-envs 4 --n-steps 128 --seeds 8", 250_000, REJAX + REJAX_8, 3),
    Race("gym-cartpole-a2c-64x16", "--env gym:CartPole-v1 --algo a2c --n-envs 64 --n-steps 16", 600_000, SB3_A2C, 25),
    Race("lunarlander-a2c-8x5", "--env LunarLander-v3 --algo a2c --n-envs 8 --n-steps 5", 100_000, SB3_LANDER, 5),
    Race("a2c-8x5-8-seeds", "--algo a2c --n-envs 8 --n-steps 5 --seeds 8", 500_000, SB3_A2C, None),
)


def main() -> None:
    args = parse_args()
    if not args.table:
        races = [race for race in RACES if not args.only or race.name in args.only]
        for race in races:
            LEDGER.add([measure(race, args)])
    print(report())


def measure(race: Race, args: argparse.Namespace) -> Row:
    """One row of the ledger."""
    row = {"name": race.name, "options": race.options, **stamp(args.date), "scale": args.scale, "repeat": args.repeat}
    our_commands = {name: our_command(race, threads, args.scale) for name, threads in OURS_THREADS.items()}
    peer_commands = dict(filter(None, (peer_command(peer, args) for peer in race.peers)))
    rates = take_turns(race.name, our_commands, peer_commands, args.repeat)
    mine, theirs = best(our_commands, rates), best(peer_commands, rates)
    row |= {"rates": rates, "ours": mine, "peer": theirs, "bar": race.bar}
    row |= ratio(rates, mine, theirs, race.bar)
    if "--seeds" not in race.options and "--env" not in race.options:
        options = [*race.options.split(), "--threads", OURS_THREADS[mine]]
        row["time"] = run_json(ours("breakdown.py", *options, "--iterations", max(10, int(2000 * args.scale))))
    return row


def our_command(race: Race, threads: int, scale: float) -> list[str]:
    return ours("ours.py", *race.options.split(), "--threads", threads, "--timesteps", int(race.timesteps * scale))


def peer_command(peer: Peer, args: argparse.Namespace) -> tuple[str, list[Any]] | None:
    """What it is called, and its command; None where its environment is missing."""
    python = peer_python(args.peers, peer.env)
    if python is None:
        return None
    script = Path(__file__).parent / "peers" / peer.script
    command = [python, script, *peer.options.split(), "--timesteps", int(peer.timesteps * args.scale)]
    return f"{peer.script} {peer.options}", command


def take_turns(name: str, mine: dict[str, list], theirs: dict[str, list], repeat: int) -> dict[str, list[float]]:
    """Steps per second of every command, one number for each round; ours and theirs alternate."""
    commands = mine | theirs
    order = [who for pair in zip_longest(mine, theirs) for who in pair if who is not None]
    rates: dict[str, list[float]] = {who: [] for who in commands}
    for number in range(repeat):
        for who in order:
            rates[who].append(run_json(commands[who])["steps_per_second"])
            progress(f"{name}, round {number + 1} of {repeat}, {who}: {rates[who][-1]:,.0f} steps/s")
    return rates


def best(names: dict[str, Any], rates: dict[str, list[float]]) -> str | None:
    """Whose median is highest."""
    return max(names, key=lambda who: median(rates[who]), default=None)


def ratio(rates: dict[str, list[float]], mine: str | None, theirs: str | None, bar: float | None) -> Row:
    """The ratio of the medians, the ratios of the rounds, and whether the bar is passed."""
    if mine is None or theirs is None:
        return {"ratio": None, "rounds": [], "passes": None}
    value = median(rates[mine]) / median(rates[theirs])
    rounds = [a / b for a, b in zip(rates[mine], rates[theirs])]
    return {"ratio": value, "rounds": rounds, "passes": None if bar is None else value >= bar}


def report() -> str:
    """The last result of every race, as Markdown."""
    last = {row["name"]: row for row in LEDGER.rows}
    columns = ("row", "ours, steps/s", "with", "peer's", "peer", "ratio", "rounds", "bar", "", "n", "load", "date")
    speeds = markdown(columns, [speed_line(race, last.get(race.name)) for race in RACES])
    columns = ("row", "collect", "weigh", "grad", "apply", "rest", "update", "steps", "gradients")
    timed = {name: row["time"] for name, row in last.items() if "time" in row}
    times = markdown(columns, [time_line(name, time) for name, time in timed.items()])
    return f"{speeds}\n\nWhere the time of one update goes, in µs:\n\n{times}"


def speed_line(race: Race, row: Row | None) -> list[Any]:
    bar = "" if race.bar is None else f"≥ {race.bar:g}"
    if row is None:
        return [race.name, None, "", None, "", None, "", bar, "", 0, "", ""]
    rates, who, peer = row["rates"], row["ours"], row["peer"]
    theirs = None if peer is None else f"{median(rates[peer]):,.0f}"
    known = row["ratio"] is not None
    return [
        race.name + ("" if row["scale"] == 1 else f" (budgets × {row['scale']:g})"),
        f"{median(rates[who]):,.0f}",
        who,
        theirs,
        peer or "",
        f"{row['ratio']:.2f}" if known else None,
        f"{min(row['rounds']):.2f} to {max(row['rounds']):.2f}" if known else "",
        bar,
        verdict(row["ratio"], row["passes"]),
        row["repeat"],
        row["machine"]["load"],
        row["date"],
    ]


def time_line(name: str, time: Row) -> list[Any]:
    micro = [f"{value:.0f}" for value in time["microseconds"].values()]
    return [name, *micro, f"{time['update']:.0f}", time["window"], time["gradients"]]


def parse_args() -> argparse.Namespace:
    made = parser(__doc__)
    add_peers(made)
    names = [race.name for race in RACES]
    made.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)} (default: all)")
    made.add_argument("--repeat", type=int, default=3, metavar="N", help="rounds (default: 3)")
    made.add_argument("--scale", type=float, default=1.0, metavar="X", help="multiply all budgets, to try it out")
    made.add_argument("--table", action="store_true", help="measure nothing; print the last results")
    return made.parse_args()


if __name__ == "__main__":
    main()
