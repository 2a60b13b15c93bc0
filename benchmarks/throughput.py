"""How fast training is: environment steps per second, as a ratio to a peer measured in the same run, and, on the host,
as a share of what the environments alone can do.

    python benchmarks/throughput.py                         # every row, three rounds
    python benchmarks/throughput.py --only a2c-8x5 --repeat 5
    python benchmarks/throughput.py --table                 # the last results again, as Markdown

Every measurement is a fresh process; ours and the peer's take turns (A B A B). A row's ratio is that of the medians;
the ratios of the single rounds are shown beside it. Ours runs with XLA's default threads and with one, the peer in the
ways that its README offers: the better of each counts, and the table says which. Start-up and compiling are in no rate.
Rows are appended to results/throughput.json.
"""

import argparse
import os
import time
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from common import RESULTS, add_peers, ours, parser, peer_python, progress, run_json, stamp
from ledger import Ledger, Row, markdown, verdict

LEDGER = Ledger(RESULTS / "throughput.json")
OURS_THREADS = {"default threads": 0, "PJRT_NPROC=1": 1}
ALONE = "environments alone"


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
    alone: int = 0
    """Steps of the same environments with random actions and no learning, whose rate is the ceiling; 0: not
    measured."""
    share: float | None = None
    """The share of the ceiling that we want."""
    rate: float | None = None
    """The steps per second that we want."""


SB3_A2C = (Peer("sb3", "sb3.py", "--algo a2c", 40_000),)
SB3_LANDER = (Peer("sb3", "sb3.py", "--algo a2c --env LunarLander-v3", 20_000),)
SB3_ATARI = tuple(
    Peer("sb3", "sb3.py", f"--algo a2c --env ALE/Breakout-v5 --n-envs 16 --warmup 500 --threads {threads}", 4_000)
    for threads in (0, 1)
)
REJAX = tuple(Peer("rejax", "rejax_ppo.py", f"--threads {threads}", 256_000) for threads in (0, 1))
REJAX_8 = tuple(Peer("rejax", "rejax_ppo.py", f"--threads {threads} --seeds 8", 64_000) for threads in (0, 1))

CARTPOLE = "--env gym:CartPole-v1 --algo a2c --n-envs 64 --n-steps 16"
LANDER = "--env LunarLander-v3 --algo a2c --n-envs 8 --n-steps 5"
CHEETAH = "--env HalfCheetah-v5 --algo a2c --n-envs 8 --n-steps 8"
BREAKOUT = "--env ALE/Breakout-v5 --algo a2c --n-envs 16 --n-steps 5"

RACES = (
    Race("a2c-8x5", "--algo a2c --n-envs 8 --n-steps 5", 2_000_000, SB3_A2C, 40),
    Race("a2c-64x16", "--algo a2c --n-envs 64 --n-steps 16", 6_000_000, SB3_A2C, 100),
    Race("ppo-4x128", "--algo ppo --n-envs 4 --n-steps 128", 1_000_000, REJAX, 1.3),
    Race("ppo-4x128-8-seeds", "--algo ppo --n-envs 4 --n-steps 128 --seeds 8", 250_000, REJAX + REJAX_8, 3),
    Race("gym-cartpole-a2c-64x16", CARTPOLE, 600_000, SB3_A2C, 25, alone=600_000),
    Race("lunarlander-a2c-8x5", LANDER, 100_000, SB3_LANDER, 5, alone=40_000),
    Race("halfcheetah-a2c-8x8", CHEETAH, 30_000, (), None, alone=20_000, share=0.6),
    Race("breakout-a2c-16x5", f"{BREAKOUT} --cnn nature", 10_000, SB3_ATARI, 1.7, alone=20_000),
    Race("breakout-a2c-16x5-a3c", f"{BREAKOUT} --cnn a3c", 10_000, SB3_ATARI, 3, alone=20_000, rate=2_200),
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
    alone = {ALONE: alone_command(race, args.scale)} if race.alone else {}
    peer_commands = dict(filter(None, (peer_command(peer, args) for peer in race.peers)))
    answers = take_turns(race.name, our_commands, alone | peer_commands, args.repeat)
    rates = {who: [answer["steps_per_second"] for answer in given] for who, given in answers.items()}
    mine, theirs = best(our_commands, rates), best(peer_commands, rates)
    row |= {"rates": rates, "ours": mine, "peer": theirs, "bar": race.bar, **judged(race, rates, mine, theirs)}
    row["others"] = max((answer["others"] or 0.0 for given in answers.values() for answer in given), default=None)
    if "--env" in race.options:
        row["shares"] = answers[mine][-1]["shares"]
    elif "--seeds" not in race.options:
        options = [*race.options.split(), "--threads", OURS_THREADS[mine]]
        row["time"] = run_json(ours("breakdown.py", *options, "--iterations", max(10, int(2000 * args.scale))))
    return row


def our_command(race: Race, threads: int, scale: float) -> list[str]:
    return ours("ours.py", *race.options.split(), "--threads", threads, "--timesteps", int(race.timesteps * scale))


def alone_command(race: Race, scale: float) -> list[str]:
    return ours("ours.py", *race.options.split(), "--alone", "--timesteps", int(race.alone * scale))


def peer_command(peer: Peer, args: argparse.Namespace) -> tuple[str, list[Any]] | None:
    """What it is called, and its command; None where its environment is missing."""
    python = peer_python(args.peers, peer.env)
    if python is None:
        return None
    script = Path(__file__).parent / "peers" / peer.script
    command = [python, script, *peer.options.split(), "--timesteps", int(peer.timesteps * args.scale)]
    return f"{peer.script} {peer.options}", command


def take_turns(name: str, mine: dict[str, list], others: dict[str, list], repeat: int) -> dict[str, list[Row]]:
    """What every command answered, once for each round; ours and the others alternate."""
    commands = mine | others
    order = [who for pair in zip_longest(mine, others) for who in pair if who is not None]
    answers: dict[str, list[Row]] = {who: [] for who in commands}
    for number in range(repeat):
        for who in order:
            answers[who].append(watched(commands[who]))
            rate, others = (answers[who][-1][key] for key in ("steps_per_second", "others"))
            beside = "" if others is None else f" beside {others:.1f} busy cores"
            progress(f"{name}, round {number + 1} of {repeat}, {who}: {rate:,.0f} steps/s{beside}")
    return answers


def watched(command: list[str]) -> Row:
    """What a command answered, and ``others``: how many cores were busy with something else meanwhile, on average."""
    start, before = time.perf_counter(), busy_elsewhere()
    answer = run_json(command)
    after, seconds = busy_elsewhere(), time.perf_counter() - start
    return {**answer, "others": None if before is None or after is None else max(0.0, (after - before) / seconds)}


def busy_elsewhere() -> float | None:
    """Core seconds that the machine has spent on whatever is no child of ours; None where only Linux would know."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _, _, irq, soft_irq, *_ = map(int, stat.read_text().split("\n", 1)[0].split()[1:])
    children = os.times()
    busy = (user + nice + system + irq + soft_irq) / os.sysconf("SC_CLK_TCK")
    return busy - children.children_user - children.children_system


def best(names: dict[str, Any], rates: dict[str, list[float]]) -> str | None:
    """Whose median is highest."""
    return max(names, key=lambda who: median(rates[who]), default=None)


def judged(race: Race, rates: dict[str, list[float]], mine: str, theirs: str | None) -> Row:
    """The ratio of the medians, the ratios of the rounds, the share of the ceiling, and whether every bar is passed."""
    rate = median(rates[mine])
    ratio = None if theirs is None else rate / median(rates[theirs])
    rounds = [] if theirs is None else [a / b for a, b in zip(rates[mine], rates[theirs])]
    share = rate / median(rates[ALONE]) if race.alone else None
    reached = [(ratio, race.bar), (share, race.share), (rate, race.rate)]
    wanted = [(value, bar) for value, bar in reached if bar is not None]
    known = bool(wanted) and all(value is not None for value, _ in wanted)
    passes = all(value >= bar for value, bar in wanted) if known else None
    return {"ratio": ratio, "rounds": rounds, "share": share, "passes": passes}


def report() -> str:
    """The last result of every race, as Markdown."""
    last = {row["name"]: row for row in LEDGER.rows}
    columns = ("row", "ours, steps/s", "with", "peer's", "peer", "ratio", "rounds")
    columns += ("alone", "share", "bar", "", "n", "load", "others", "date")
    speeds = markdown(columns, [speed_line(race, last.get(race.name)) for race in RACES])
    columns = ("row", "collect", "weigh", "grad", "apply", "rest", "update", "steps", "gradients")
    timed = {name: row["time"] for name, row in last.items() if "time" in row}
    times = markdown(columns, [time_line(name, time) for name, time in timed.items()])
    spent = {name: row["shares"] for name, row in last.items() if "shares" in row}
    shares = markdown(("row", "environment", "policy", "learning"), [share_line(*item) for item in spent.items()])
    return (
        f"{speeds}\n\nWhere the time of one update goes, in µs:\n\n{times}"
        f"\n\nWhere the time goes on the host:\n\n{shares}"
    )


def speed_line(race: Race, row: Row | None) -> list[Any]:
    if row is None:
        return [race.name, None, "", None, "", None, "", None, "", bar_of(race), "", 0, "", "", ""]
    rates, who, peer = row["rates"], row["ours"], row["peer"]
    ratio, share = row["ratio"], row.get("share")
    return [
        race.name + ("" if row["scale"] == 1 else f" (budgets × {row['scale']:g})"),
        f"{median(rates[who]):,.0f}",
        who,
        f"{median(rates[peer]):,.0f}" if peer else not_run(race.peers),
        peer or "",
        f"{ratio:.2f}" if ratio else not_run(race.peers),
        f"{min(row['rounds']):.2f} to {max(row['rounds']):.2f}" if ratio else "",
        f"{median(rates[ALONE]):,.0f}" if share else not_run(race.alone),
        f"{share:.0%}" if share else "",
        bar_of(race),
        verdict(row["passes"], row["passes"]) if bar_of(race) else "",
        row["repeat"],
        row["machine"]["load"],
        f"{row['others']:.1f}" if row.get("others") is not None else "",
        row["date"],
    ]


def not_run(wanted: Any) -> str | None:
    """The cell of what was not measured: empty where nobody wanted it."""
    return None if wanted else ""


def bar_of(race: Race) -> str:
    """What we want, in words."""
    wanted = [(race.bar, "{:g} ×"), (race.rate, "{:,.0f}/s"), (race.share, "{:.0%} of alone")]
    return ", ".join(f"≥ {words.format(value)}" for value, words in wanted if value is not None)


def time_line(name: str, time: Row) -> list[Any]:
    micro = [f"{value:.0f}" for value in time["microseconds"].values()]
    return [name, *micro, f"{time['update']:.0f}", time["window"], time["gradients"]]


def share_line(name: str, shares: Row) -> list[str]:
    return [name, *(f"{shares[what]:.0%}" for what in ("env", "policy", "learning"))]


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
