"""Vowpal Wabbit's SquareCB on given streams: progressive loss, rows per second, and its probabilities for given scores.

    vw.py STREAM.npz [--options "--learning_rate 1"]     # features [T, d], labels [T], orders [S, T], uniforms [S, T]
    vw.py STREAM.npz --speed                             # rows per second
    vw.py --golden                                       # scores and probabilities, for our tests

Every row: predict, choose by the row's uniform number, learn from the loss of the choice (0 right, 1 wrong) and its
probability. The model is updated after each row. Prints one JSON line.
"""

import argparse
import bisect
import json
import os
import tempfile
import time
from itertools import accumulate

import numpy as np
import vowpalwabbit
from vowpalwabbit import Workspace

SQUARECB = "--cb_explore_adf --squarecb --quiet"
"""All else as Vowpal Wabbit has it: γ = 10 √rows, learning rate 0.5, normalised adaptive invariant updates."""
CROSSED = f"{SQUARECB} -q UA"
"""User features times actions: a linear model for each action, and one that they share."""


def main() -> None:
    args = parse_args()
    if args.golden:
        print(json.dumps(golden()))
        return
    stream = np.load(args.stream)
    n_actions = int(stream["labels"].max()) + 1
    contexts = [context(row) for row in stream["features"]]
    measure = speed if args.speed else losses
    rows = stream["labels"].tolist(), stream["orders"], stream["uniforms"]
    found = measure(contexts, *rows, n_actions, args.options, args.shift)
    print(json.dumps({**found, "options": f"{CROSSED} {args.options}".strip(), "version": vowpalwabbit.__version__}))


def losses(contexts, labels, orders, uniforms, n_actions, options, shift) -> dict:
    """The progressive loss of a fresh model on every order."""
    runs = [run(contexts, labels, *rows, n_actions, options, shift) for rows in zip(orders, uniforms)]
    return {"losses": [float(np.mean(paid)) for _, paid in runs], "shift": shift}


def run(contexts, labels, order, uniforms, n_actions, options, shift) -> tuple[list[str], list[float]]:
    """The rows as logged, and the loss of each. The model is told ``loss − shift``."""
    model = Workspace(f"{CROSSED} {options}")
    names = [f"|A a{action}" for action in range(n_actions)]
    logged, paid = [], []
    for row, uniform in zip(order, uniforms):
        probabilities = model.predict([contexts[row], *names])
        action = choose(probabilities, uniform)
        loss = float(action != labels[row])
        lines = [contexts[row], *names]
        lines[1 + action] = f"0:{loss - shift}:{probabilities[action]} {names[action]}"
        model.learn(lines)
        logged.append("\n".join(lines))
        paid.append(loss)
    model.finish()
    return logged, paid


def choose(probabilities, uniform) -> int:
    """The action whose interval of the cumulated probabilities holds the number."""
    cumulated = list(accumulate(probabilities))
    return min(bisect.bisect_right(cumulated, uniform * cumulated[-1]), len(probabilities) - 1)


def context(row) -> str:
    return "shared |U " + " ".join(f"f{i}:{value:.7g}" for i, value in enumerate(row) if value)


def speed(contexts, labels, orders, uniforms, n_actions, options, shift) -> dict:
    """Rows per second. ``choose``: predict, choose and learn, a row at a time from Python. ``learn``: learn alone, from
    the same rows as they were logged, in C++ and from Vowpal Wabbit's own cache file."""
    passes = max(1, ROWS // len(labels))
    order, uniform = np.tile(orders[0], passes), np.tile(uniforms[0], passes)
    clock = time.perf_counter()
    logged, _ = run(contexts, labels, order, uniform, n_actions, options, shift)
    rates = {"choose": len(logged) / (time.perf_counter() - clock)}
    with tempfile.TemporaryDirectory() as folder:
        data, cache = os.path.join(folder, "rows.dat"), os.path.join(folder, "rows.cache")
        with open(data, "w", encoding="utf-8") as file:
            file.write("\n\n".join(logged) + "\n\n")
        for _ in ("make the cache", "use it"):
            clock = time.perf_counter()
            model = Workspace(f"{CROSSED} {options} -d {data} --cache_file {cache}")
            seconds = time.perf_counter() - clock
            assert model.get_weighted_examples() == len(logged)
            model.finish()
    return {"rows_per_second": {**rates, "learn": len(logged) / seconds}}


ROWS = 4000
"""About as many rows are timed, in several passes over a small set, so that the start does not count."""


def golden() -> dict:
    """Four actions of one feature each: a weight is a score (a predicted cost), so that both sides are known."""
    cases = []
    for scale, exponent in ((10.0, 0.5), (3.0, 0.25)):
        model = Workspace(f"{SQUARECB} --noconstant -b 10 --gamma_scale {scale} --gamma_exponent {exponent}")
        names = [f"| a{action}" for action in range(4)]
        weights = [model.example(name) for name in names]
        places = [example.feature(0, 0) for example in weights]
        random = np.random.default_rng(0)
        for rows in range(40):
            probabilities = model.predict(names)
            if rows in (1, 5, 11, 39):
                costs = [model.get_weight(place) for place in places]
                cases.append([scale, exponent, rows, costs, probabilities])
            action = choose(probabilities, random.random())
            lines = list(names)
            lines[action] = f"0:{(0.1, 0.7, 0.4, 0.9)[action]}:{probabilities[action]} {names[action]}"
            model.learn(lines)
    return {"scale_exponent_rows_costs_probabilities": cases, "version": vowpalwabbit.__version__}


def parse_args() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("stream", nargs="?", help="an .npz file")
    made.add_argument("--options", default="", help="more options of Vowpal Wabbit")
    words = "taken from every loss: 0.5 makes the first prediction, 0, the middle of the range (default: 0)"
    made.add_argument("--shift", type=float, default=0.0, help=words)
    made.add_argument("--speed", action="store_true", help="rows per second instead of losses")
    made.add_argument("--golden", action="store_true", help="scores and probabilities instead of losses")
    return made.parse_args()


if __name__ == "__main__":
    main()
