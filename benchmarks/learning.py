"""What is learned: the return of the best checkpoint on the real Gymnasium, for every preset, on seeds nobody tuned on.

    python benchmarks/learning.py --env CartPole-v1 --algo a2c      # seeds 100 to 107, those that are missing
    python benchmarks/learning.py --all                             # every missing row of the table
    python benchmarks/learning.py --table                           # the tables, as Markdown

The settings are those of :mod:`policygrad.run.tuned`. All seeds are trained in one program; the policy that evaluated
best during training is then played on Gymnasium, 100 episodes greedily and 100 sampled. A row of results/learning.json
is one (environment, algorithm, recipe, seed). A changed recipe has another hash, and its rows are measured anew.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import mean
from typing import Any, NamedTuple

from common import RESULTS, parser, progress, seeds_of, stamp
from ledger import Ledger, Row, markdown, verdict

from policygrad.run.recipes import PRESETS, Recipe, RecipeError, get_preset
from policygrad.run.tuned import tuned

LEDGER = Ledger(RESULTS / "learning.json", key=("env", "algo", "recipe", "seed"))
EPISODES = 100
SEEDS = range(100, 108)
EVALUATION_SEED = 1_000_000
"""Plus the run's seed."""


class Task(NamedTuple):
    """An environment of the table."""

    env: str
    algos: tuple[str, ...]
    bar: str
    """What we want, in words."""
    passes: Callable[[Sequence[float]], bool]
    """Whether the greedy returns of :data:`SEEDS` pass."""


TASKS = (
    Task("CartPole-v1", tuple(PRESETS), "≥ 475 for 7 of 8 seeds", lambda returns: sum(x >= 475 for x in returns) >= 7),
    Task("Acrobot-v1", ("a2c", "a2c-gae"), "mean ≥ −83.4", lambda returns: mean(returns) >= -83.4),
    Task("Pendulum-v1", ("a2c", "a2c-gae"), "mean ≥ −163", lambda returns: mean(returns) >= -163),
)


def main() -> None:
    args = parse_args()
    for recipe in [] if args.table else chosen(args):
        fill(recipe, args.seeds, args.date)
    print(report())


def chosen(args: argparse.Namespace) -> list[Recipe]:
    """What to fill in."""
    pairs = [(task.env, algo) for task in TASKS for algo in task.algos] if args.all else [(args.env, args.algo)]
    changes = {} if args.timesteps is None else {"total_timesteps": args.timesteps}
    try:
        return [tuned(algo, env, **changes) for env, algo in pairs]
    except RecipeError as error:
        raise SystemExit(f"learning.py: {error}") from None


def fill(recipe: Recipe, seeds: Sequence[int], date: str | None) -> None:
    """Measure the seeds that the ledger has not."""
    wanted = [{**identity(recipe), "seed": seed} for seed in seeds]
    missing = [row["seed"] for row in LEDGER.missing(wanted)]
    if not missing:
        progress(f"{recipe.env}, {recipe.algo}: nothing is missing")
    for first, count in neighbours(missing):
        progress(f"{recipe.env}, {recipe.algo}: {count} seeds from {first}, {recipe.total_timesteps:,} steps each ...")
        LEDGER.add(measure(recipe, first, count, date))


def measure(recipe: Recipe, first: int, count: int, date: str | None) -> list[Row]:
    """Train ``count`` seeds at once, and play each one's best policy on Gymnasium."""
    import policygrad as pg

    marks = stamp(date)
    began = time.perf_counter()
    policies = pg.train(recipe.env, recipe, seed=first, seeds=count, out=None).policies
    seconds = time.perf_counter() - began

    def mean_return(i: int, deterministic: bool) -> float:
        """Each policy meets episodes of its own, so that the rows are independent."""
        options = {"episodes": EPISODES, "deterministic": deterministic, "seed": EVALUATION_SEED + first + i}
        return pg.evaluate(policies[i], f"gym:{recipe.env}", **options).mean

    shared = {
        "total_timesteps": recipe.total_timesteps,
        "changes": changes_of(recipe),
        "episodes": EPISODES,
        "seconds": seconds,
        "seeds_together": count,
        **marks,
    }
    returns = [{"greedy": mean_return(i, True), "sampled": mean_return(i, False)} for i in range(count)]
    return [{**identity(recipe), "seed": first + i, **found, **shared} for i, found in enumerate(returns)]


def identity(recipe: Recipe) -> Row:
    """What names a recipe's rows, but for the seed."""
    return {"env": recipe.env, "algo": recipe.algo, "recipe": recipe_hash(recipe)}


def recipe_hash(recipe: Recipe) -> str:
    """Twelve hexadecimal digits of what differs from a recipe's defaults, so that a new option leaves old rows as they
    are; the seeds do not count."""
    default = Recipe().to_dict() | {"seed": recipe.seed, "seeds": recipe.seeds}
    values = {name: value for name, value in recipe.to_dict().items() if value != default[name]}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def changes_of(recipe: Recipe) -> Row:
    """What the recipe changes in its preset."""
    before = get_preset(recipe.algo).recipe.to_dict()
    return {name: value for name, value in recipe.to_dict().items() if value != before[name] and name != "env"}


def neighbours(seeds: Sequence[int]) -> Iterator[tuple[int, int]]:
    """``(first, count)`` of every run of consecutive seeds: what one program can train."""
    start = 0
    for i in range(1, len(seeds) + 1):
        if i == len(seeds) or seeds[i] != seeds[i - 1] + 1:
            yield seeds[start], i - start
            start = i


def report() -> str:
    """A table for each environment."""
    return "\n\n".join(f"**{task.env}**, {task.bar}\n\n{table(task, LEDGER.rows)}" for task in TASKS)


def table(task: Task, rows: Sequence[Row]) -> str:
    """The rows of the recipes as they are now, over :data:`SEEDS`."""
    columns = ("algorithm", "steps", "greedy", "worst seed", "95 % interval", "sampled", "n", "", "seconds", "day")
    return markdown(columns, [line(task, algo, rows) for algo in task.algos])


def line(task: Task, algo: str, rows: Sequence[Row]) -> list[Any]:
    from policygrad.run.statistics import bootstrap_interval

    recipe = tuned(algo, task.env)
    named = identity(recipe).items()
    found = [row for row in rows if named <= {name: row[name] for name, _ in named}.items() and row["seed"] in SEEDS]
    steps = f"{recipe.total_timesteps:,}"
    if not found:
        return [algo, steps, None, "", "", None, 0, None, "", ""]
    greedy = [row["greedy"] for row in found]
    low, high = bootstrap_interval(greedy)
    complete = len(found) == len(SEEDS)
    return [
        algo,
        steps,
        f"{mean(greedy):.1f}",
        f"{min(greedy):.1f}",
        f"{low:.1f} to {high:.1f}" if len(found) > 1 else "",
        f"{mean(row['sampled'] for row in found):.1f}",
        len(found),
        verdict(mean(greedy), task.passes(greedy)) if complete else f"{len(SEEDS) - len(found)} seeds not run",
        f"{max(row['seconds'] for row in found):.0f}",
        max(row["date"] for row in found),
    ]


def parse_args() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--env", default="CartPole-v1", help="default: CartPole-v1")
    made.add_argument("--algo", default="a2c", help="default: a2c")
    made.add_argument("--seeds", type=seeds_of, default=list(SEEDS), metavar="A:B", help="default: 100:108")
    made.add_argument("--timesteps", type=int, metavar="N", help="another budget, to try it out: no row of the table")
    made.add_argument("--all", action="store_true", help="every row of the tables that is missing")
    made.add_argument("--table", action="store_true", help="measure nothing; print the tables")
    return made.parse_args()


if __name__ == "__main__":
    main()
