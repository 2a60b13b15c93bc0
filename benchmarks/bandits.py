"""SquareCB against Vowpal Wabbit's, on the same streams: progressive loss, and rows per second.

    python benchmarks/bandits.py --tune     # the settings of both sides, on shuffles of their own
    python benchmarks/bandits.py            # 10 other shuffles of each set, and the speed
    python benchmarks/bandits.py --table    # the last results again, as Markdown

The sets are scikit-learn's, as bandit feedback: loss 1 for a wrong class. Both sides see the same features, the same
orders and the same random numbers, and update after each row. Settings are *defaults*; *gradient*, defaults with our
``gradient`` oracle; or *tuned*: the best of a grid for each set and side on 5 shuffles that are not reported. Rows go
to results/bandits.json.
"""

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np
from common import HERE, RESULTS, add_peers, parser, peer_python, progress, run_json, stamp
from ledger import Ledger, Row, markdown, verdict
from scipy import stats

from policygrad.bandits import fit_encoder, load_table, rewards_of, shuffled, squarecb
from policygrad.bandits.stream import keys_of, progressive, uniforms

LEDGER = Ledger(RESULTS / "bandits.json", key=("kind", "set", "settings"))
SETS = ("breast_cancer", "digits", "iris", "wine")
TUNED_ON, REPORTED_ON = (100, 5), (0, 10)
"""Seed and number of the shuffles."""
OURS = {"ridge": (1.0, 10.0, 30.0), "gamma_scale": (10.0, 100.0, 1000.0)}
THEIRS = {"learning_rate": (0.1, 0.5, 2.0), "gamma_scale": (10.0, 100.0, 1000.0), "shift": (0.0, 0.5)}
"""The grids: 9 settings of ours, 18 of the peer's. With shift 0.5 its losses are −½ and ½, as our prior ½ has it."""
UNTUNED: dict[str, dict[str, Any]] = {"defaults": {}, "gradient": {"oracle": "gradient"}}
"""Both sides' defaults; and the same with a regression of the peer's kind for ours."""
SETTINGS = ("tuned", *UNTUNED)
BATCH, REPEAT, ROUNDS = 64, 10, 3
"""Rows of a batch; passes over a set in one timing; timings."""


class Stream:
    """A set, its shuffles and its random numbers, for both sides."""

    def __init__(self, name: str, seed: int, shuffles: int) -> None:
        table = load_table(name)
        self.features = fit_encoder(table.columns)(table.columns)
        self.labels, self.n_actions = table.label, len(table.classes)
        random = np.random.default_rng(seed)
        self.orders = np.stack([random.permutation(len(self.labels)) for _ in range(shuffles)])
        self.key = jax.random.key(seed)
        choices = [keys_of(self.key, number)[1] for number in range(shuffles)]
        self.uniforms = np.stack([uniforms(key, np.arange(len(self.labels))) for key in choices])

    def ours(self, options: dict[str, Any]) -> list[float]:
        """The progressive loss of every shuffle."""
        bandit = squarecb(self.n_actions, self.features.shape[1], losses=True, **options)
        losses = rewards_of(self.labels, self.n_actions, losses=True)
        _, log = shuffled(bandit, self.key, self.features, losses, self.orders)
        return np.asarray(log.reward, float).mean(axis=1).tolist()

    def peer(self, python: Path, options: dict[str, Any], *more: str) -> Row:
        """What ``peers/vw.py`` answers. It has an intercept of its own, and so is not given ours."""
        options = dict(options)
        shift = options.pop("shift", 0.0)
        words = " ".join(f"--{name} {value:g}" for name, value in options.items())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "stream.npz"
            arrays = dict(labels=self.labels, orders=self.orders, uniforms=self.uniforms)
            np.savez(path, features=self.features[:, :-1], **arrays)
            script = HERE / "peers" / "vw.py"
            return run_json([python, script, path, f"--options={words}", "--shift", shift, *more])


def main() -> None:
    args = parse_args()
    python = None if args.table else peer_python(args.peers, "vw")
    if python:
        if args.tune:
            for name in args.sets:
                tune(name, python, args.date)
        else:
            for name in args.sets:
                compare(name, python, args.date)
                time_both(name, python, args.date)
    print(report())


def tune(name: str, python: Path, date: str | None) -> None:
    """The setting of least mean loss, for each side."""
    marks, stream = stamp(date), Stream(name, *TUNED_ON)
    found = {
        "ours": {json.dumps(options): float(np.mean(stream.ours(options))) for options in grid(OURS)},
        "peer": {json.dumps(o): float(np.mean(stream.peer(python, o)["losses"])) for o in grid(THEIRS)},
    }
    best = {side: json.loads(min(losses, key=losses.__getitem__)) for side, losses in found.items()}
    shuffles = {"seed": TUNED_ON[0], "shuffles": TUNED_ON[1]}
    LEDGER.add([{"kind": "tuning", "set": name, "settings": "tuned", **best, **shuffles, "losses": found, **marks}])
    progress(f"{name}: {best}")


def compare(name: str, python: Path, date: str | None) -> None:
    """Both sides on the reported shuffles, with defaults and with what was tuned elsewhere."""
    stream = Stream(name, *REPORTED_ON)
    tuned = LEDGER.select(kind="tuning", set=name)
    settings = {which: {"ours": ours, "peer": {}} for which, ours in UNTUNED.items()}
    settings |= {"tuned": tuned[0]} if tuned else {}
    for which, options in settings.items():
        marks, peer = stamp(date), stream.peer(python, options["peer"])
        losses = {"ours": stream.ours(options["ours"]), "peer": peer["losses"]}
        low, mean, high = paired(losses["ours"], losses["peer"])
        row = {"kind": "loss", "set": name, "settings": which, "seed": REPORTED_ON[0], "losses": losses}
        row |= {"options": {side: options[side] for side in losses}, "difference": mean, "low": low, "high": high}
        LEDGER.add([row | {"peer_version": peer["version"], **marks}])
        progress(f"{name}, {which}: ours minus peer's {mean:+.4f} ({low:+.4f} to {high:+.4f})")


def paired(ours: list[float], peer: list[float]) -> tuple[float, float, float]:
    """The mean difference between its ends: a 95 % interval by Student's t over shuffles."""
    each = np.subtract(ours, peer)
    half = stats.t.ppf(0.975, len(each) - 1) * stats.sem(each)
    return float(each.mean() - half), float(each.mean()), float(each.mean() + half)


def time_both(name: str, python: Path, date: str | None) -> None:
    """Rows per second of both sides, in turn: ours without delay and in batches, the peer's as its script has it."""
    stream, marks = Stream(name, 0, 1), stamp(date)
    rates: dict[str, list[float]] = {"ours": [], f"ours, {BATCH} at a time": [], "choose": [], "learn": []}
    timed = {"ours": our_rate(stream, 1), f"ours, {BATCH} at a time": our_rate(stream, BATCH)}
    for _ in range(ROUNDS):
        for side, rate in timed.items():
            rates[side].append(next(rate))
        peer = stream.peer(python, {}, "--speed")
        for side, rate in peer["rows_per_second"].items():
            rates[side].append(rate)
    row = {"kind": "speed", "set": name, "settings": "defaults", "rates": rates, "batch": BATCH}
    LEDGER.add([row | {"peer_version": peer["version"], **marks}])
    progress(f"{name}: " + ", ".join(f"{side} {median(each):,.0f} rows/s" for side, each in rates.items()))


def our_rate(stream: Stream, batch: int) -> Iterator[float]:
    """Predict, choose and learn in one program; compiled beforehand."""
    bandit = squarecb(stream.n_actions, stream.features.shape[1], losses=True)
    order = np.tile(stream.orders[0], REPEAT)
    losses = rewards_of(stream.labels, stream.n_actions, losses=True)
    rows = jax.device_put((stream.features[order], losses[order]))
    state = bandit.init(stream.key)
    run = lambda: jax.block_until_ready(progressive(bandit, state, stream.key, *rows, batch=batch))  # noqa: E731
    run()
    while True:
        clock = time.perf_counter()
        run()
        yield len(order) / (time.perf_counter() - clock)


def grid(values: dict[str, tuple]) -> list[dict[str, Any]]:
    return [dict(zip(values, chosen)) for chosen in itertools.product(*values.values())]


def report() -> str:
    """Losses, then speeds, as Markdown."""
    columns = ("set", "settings", "ours", "Vowpal Wabbit", "ours minus its (95 %)", "not worse", "n", "load", "date")
    lines = [loss_line(which, name) for which in SETTINGS for name in SETS]
    lines += [mean_line(which) for which in SETTINGS]
    losses = markdown(columns, lines)
    columns = ("set", "ours, no delay", f"ours, {BATCH} at a time", "its, from Python", "its, in C++ (learning alone)")
    columns += ("as fast", "n", "load", "date")
    return f"{losses}\n\nRows per second:\n\n{markdown(columns, [speed_line(name) for name in SETS])}"


def loss_line(which: str, name: str) -> list[Any]:
    row = next(iter(LEDGER.select(kind="loss", set=name, settings=which)), None)
    if row is None:
        return [name, which, None, None, None, None, 0, "", ""]
    means = [f"{np.mean(row['losses'][side]):.4f}" for side in ("ours", "peer")]
    difference = f"{row['difference']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
    passes = verdict(row["difference"], row["low"] <= 0)
    return [name, which, *means, difference, passes, len(row["losses"]["ours"]), row["machine"]["load"], row["date"]]


def mean_line(which: str) -> list[Any]:
    """The mean difference over all sets; its bar is 0."""
    rows = LEDGER.select(kind="loss", settings=which)
    if {row["set"] for row in rows} != set(SETS):
        return ["all", which, None, None, None, None, 0, "", ""]
    mean = float(np.mean([row["difference"] for row in rows]))
    return ["all", which, "", "", f"{mean:+.4f}", verdict(mean, mean <= 0), len(rows), "", ""]


def speed_line(name: str) -> list[Any]:
    row = next(iter(LEDGER.select(kind="speed", set=name)), None)
    if row is None:
        return [name, *[None] * 4, None, 0, "", ""]
    rates = {side: median(each) for side, each in row["rates"].items()}
    batches = max(rate for side, rate in rates.items() if side.startswith("ours"))
    passes = verdict(batches, batches >= max(rates["choose"], rates["learn"]))
    cells = [f"{rate:,.0f}" for rate in rates.values()]
    return [name, *cells, passes, len(row["rates"]["ours"]), row["machine"]["load"], row["date"]]


def parse_args() -> argparse.Namespace:
    made = parser(__doc__)
    add_peers(made)
    made.add_argument("--sets", nargs="+", choices=SETS, default=SETS, metavar="NAME", help=f"of {', '.join(SETS)}")
    made.add_argument("--tune", action="store_true", help="find the settings, on shuffles that are not reported")
    made.add_argument("--table", action="store_true", help="measure nothing; print the last results")
    return made.parse_args()


if __name__ == "__main__":
    main()
