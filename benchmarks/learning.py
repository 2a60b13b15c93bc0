"""What is learned: the return of the best checkpoint on the real Gymnasium, for every preset, on seeds nobody tuned on.

    python benchmarks/learning.py --env CartPole-v1 --algo a2c      # the seeds of its table that are missing
    python benchmarks/learning.py --all                             # every missing row of the tables
    python benchmarks/learning.py --table                           # the tables, as Markdown
    python benchmarks/learning.py --page                            # the tables into docs/17-recipes.md and tuned.py

The settings are those of :mod:`policygrad.run.tuned`. In pure worlds all seeds are trained in one program, on the host
one after another. The policy that evaluated best during training then plays 100 greedy episodes on the real Gymnasium
(gymnax's worlds have no other: there it plays on them), and 100 sampled ones where that is quick. A row of
results/learning.json is one (environment, algorithm, recipe, seed), written as soon as it is known. A changed recipe
has another hash, and its rows are measured anew.
"""

import argparse
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import mean
from typing import Any, NamedTuple

from common import RESULTS, ROOT, parser, progress, seeds_of, stamp
from ledger import Ledger, Row, markdown, verdict

from policygrad.envs import registry
from policygrad.run.devices import spare_threads
from policygrad.run.recipes import PRESETS, Recipe, RecipeError, get_preset
from policygrad.run.tuned import Result, tuned

LEDGER = Ledger(RESULTS / "learning.json", key=("env", "algo", "recipe", "seed"))
PAGE = ROOT / "docs" / "17-recipes.md"
TUNED = ROOT / "src" / "policygrad" / "run" / "tuned.py"
EPISODES = 100
SEEDS = range(100, 108)
HOST_SEEDS = range(100, 105)
"""Where the environment is stepped on the host, and seeds take turns."""
EVALUATION_SEED = 1_000_000
"""Plus the run's seed."""
A2C = ("a2c", "a2c-gae")


class Task(NamedTuple):
    """An environment of the table."""

    env: str
    algos: tuple[str, ...]
    """Empty: nobody has looked for a recipe."""
    bar: str = "recorded"
    """What we want, in words."""
    passes: Callable[[Sequence[float]], bool] | None = None
    """Whether the greedy returns of :attr:`seeds` pass; None: there is no bar."""
    seeds: Sequence[int] = SEEDS
    sampled: bool = True
    """Whether sampled episodes are played too."""


def mean_task(env: str, bar: float, algos: tuple[str, ...] = A2C, **options: Any) -> Task:
    """A task whose mean over seeds has a bar."""
    words = f"mean ≥ {bar:g}".replace("-", "−")
    return Task(env, algos, words, lambda returns: mean(returns) >= bar, **options)


def good_walks(returns: Sequence[float]) -> bool:
    return mean(returns) >= 270 and max(returns) >= 295


HOST: dict[str, Any] = {"seeds": HOST_SEEDS, "sampled": False}
ALONE = tuple(
    name for name, preset in PRESETS.items() if not preset.recipe.workers and preset.recipe.collect != "dataset"
)
"""Algorithms of one process that play, whose seeds are trained together. Workers are measured by asynchronous.py."""
MINATAR = ("Asterix", "Breakout", "Freeway", "SpaceInvaders")
"""Five seeds too: they are long."""
TASKS = (
    Task("CartPole-v1", ALONE, "≥ 475 for 7 of 8 seeds", lambda returns: sum(x >= 475 for x in returns) >= 7),
    mean_task("Acrobot-v1", -83.4),
    mean_task("Pendulum-v1", -163),
    mean_task("MountainCar-v0", -111.3, ("a2c-gae",)),
    mean_task("LunarLander-v3", 155.8, **HOST),
    mean_task("HalfCheetah-v4", 3041, ("a2c-gae",), **HOST),
    Task("HalfCheetah-v5", ("a2c-gae",), **HOST),
    mean_task("Hopper-v4", 733, ("a2c-gae",), **HOST),
    mean_task("Walker2d-v4", 582, ("a2c-gae",), **HOST),
    mean_task("Swimmer-v4", 201, (), **HOST),
    Task("BipedalWalker-v3", (), "mean ≥ 270, best seed ≥ 295", good_walks, **HOST),
    *(Task(f"gymnax:{game}-MinAtar", ("a2c-gae",), seeds=HOST_SEEDS) for game in MINATAR),
)


PAGE_HEAD = """\
# 17 Recipes that were tuned, and what they earned

    policygrad list recipes                                            # all of them, with their settings
    policygrad train LunarLander-v3 --algo a2c --recipe tuned      # one of them
    python benchmarks/learning.py --env LunarLander-v3 --algo a2c  # its rows below, measured again

Settings are in [`TUNED`](../src/policygrad/run/tuned.py), found on seeds 1000 to 1007. The rows come from other
seeds, 100 and up: train, take the checkpoint that evaluated best, play 100 fresh greedy episodes with it. *mean*, *IQM*
and *worst seed* are over seeds, *n* of them; the interval is a 95 % bootstrap of the mean (with five seeds it is
somewhat too narrow). *sampled* is the same checkpoint with sampled actions, where that was played. *steps* are
environment steps per seed. *seconds* is the training of all seeds, compiling and evaluating included, on 2 shared cores
of an AMD EPYC: where the environment is stepped on the host, pauses for others' work are in it.

This page is written by `python benchmarks/learning.py --page` from [the ledger](../benchmarks/results/learning.json).

"""


def main() -> None:
    args = parse_args()
    for recipe in [] if args.table or args.page else chosen(args):
        task = task_of(recipe.env)
        fill(recipe, task, task.seeds if args.seeds is None else args.seeds, args.date)
    if args.page:
        PAGE.write_text(page(), encoding="utf-8")
        TUNED.write_text(with_results(TUNED.read_text(encoding="utf-8"), results()), encoding="utf-8")
    print(report())


def chosen(args: argparse.Namespace) -> list[Recipe]:
    """What to fill in."""
    pairs = [(task.env, algo) for task in TASKS for algo in task.algos] if args.all else [(args.env, args.algo)]
    changes = {} if args.timesteps is None else {"total_timesteps": args.timesteps}
    try:
        return [tuned(algo, env, **changes) for env, algo in pairs]
    except RecipeError as error:
        raise SystemExit(f"learning.py: {error}") from None


def task_of(env: str) -> Task:
    """The task of an environment; one without a bar where there is no table."""
    host = HOST if registry.is_host(env) else {}
    return next((task for task in TASKS if task.env == env), Task(env, (), **host))


def fill(recipe: Recipe, task: Task, seeds: Sequence[int], date: str | None) -> None:
    """Measure the seeds that the ledger has not. Where seeds take turns, each is written as it comes."""
    wanted = [{**identity(recipe), "seed": seed} for seed in seeds]
    missing = [row["seed"] for row in LEDGER.missing(wanted)]
    if not missing:
        progress(f"{recipe.env}, {recipe.algo}: nothing is missing")
    groups = [(seed, 1) for seed in missing] if registry.is_host(recipe.env) else neighbours(missing)
    for first, count in groups:
        progress(f"{recipe.env}, {recipe.algo}: {count} seeds from {first}, {recipe.total_timesteps:,} steps each ...")
        LEDGER.add(measure(recipe, first, count, date, sampled=task.sampled))


def measure(recipe: Recipe, first: int, count: int, date: str | None, *, sampled: bool) -> list[Row]:
    """Train ``count`` seeds at once, and play each one's best policy."""
    spare_threads(recipe)
    import policygrad as pg

    marks = stamp(date)
    began = time.perf_counter()
    policies = pg.train(recipe.env, recipe, seed=first, seeds=count, out=None).policies
    seconds = time.perf_counter() - began
    stage = f"gym:{recipe.env}" if recipe.env in registry.TWINS else recipe.env

    def mean_return(i: int, deterministic: bool) -> float:
        """Each policy meets episodes of its own, so that the rows are independent."""
        options = {"episodes": EPISODES, "deterministic": deterministic, "seed": EVALUATION_SEED + first + i}
        return pg.evaluate(policies[i], stage, **options).mean

    shared = {
        "total_timesteps": recipe.total_timesteps,
        "changes": changes_of(recipe),
        "episodes": EPISODES,
        "seconds": seconds,
        "seeds_together": count,
        **marks,
    }
    returns = [
        {"greedy": mean_return(i, True), "sampled": mean_return(i, False) if sampled else None} for i in range(count)
    ]
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


def rows_of(task: Task, algo: str, rows: Sequence[Row]) -> list[Row]:
    """The rows of a recipe as it is now, over the task's seeds, in order."""
    named = identity(tuned(algo, task.env)).items()
    found = [row for row in rows if named <= {name: row[name] for name, _ in named}.items()]
    return sorted((row for row in found if row["seed"] in task.seeds), key=lambda row: row["seed"])


def result_of(task: Task, algo: str, rows: Sequence[Row]) -> Result | None:
    """What a recipe earned, as :data:`policygrad.run.tuned.RESULTS` says it; None: nothing yet."""
    from policygrad.run.statistics import summary

    found = rows_of(task, algo, rows)
    if not found:
        return None
    what = summary([row["greedy"] for row in found])
    mean_, low, high = (round(what[name], 1) + 0.0 for name in ("mean", "low", "high"))
    return Result(mean_, low, high, words_of([row["seed"] for row in found]))


def results() -> dict[tuple[str, str], Result]:
    """What :data:`policygrad.run.tuned.RESULTS` has to say."""
    rows = LEDGER.rows
    found = {(task.env, algo): result_of(task, algo, rows) for task in TASKS for algo in task.algos}
    return {pair: result for pair, result in found.items() if result is not None}


def with_results(source: str, what: dict[tuple[str, str], Result]) -> str:
    """The source of ``tuned.py`` with these results in it."""
    head, begin, rest = source.partition("RESULTS: dict[tuple[str, str], Result] = {\n")
    lines = [
        f'    ("{env}", "{algo}"): Result({found.mean}, {found.low}, {found.high}, "{found.seeds}"),\n'
        for (env, algo), found in what.items()
    ]
    return "".join([head, begin, *lines, rest[rest.index("}\n") :]])


def words_of(seeds: Sequence[int]) -> str:
    """``100 to 104``, or each by its name."""
    whole = len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))


def report() -> str:
    """A table for each environment."""
    rows = LEDGER.rows
    return "\n\n".join(f"**{task.env}**, {task.bar}\n\n{table(task, rows)}" for task in TASKS if task.algos)


def page() -> str:
    """docs/17-recipes.md."""
    rows = LEDGER.rows
    absent = markdown(("environment", "bar", ""), [(task.env, task.bar, None) for task in TASKS if not task.algos])
    sections = [section(task, rows) for task in TASKS if task.algos]
    return PAGE_HEAD + "\n".join([*sections, f"## Without a recipe\n\n{absent}\n"])


def section(task: Task, rows: Sequence[Row]) -> str:
    """One environment of the page: the bar, the table, the command of its best recipe."""

    def merit(algo: str) -> tuple[float, int]:
        """The mean; among equals, the fewest steps."""
        found = result_of(task, algo, rows)
        return -math.inf if found is None else found.mean, -tuned(algo, task.env).total_timesteps

    best = max(task.algos, key=merit)
    command = f"    policygrad train {task.env} --algo {best} --recipe tuned"
    bar = "Recorded; there is no bar." if task.passes is None else f"Bar: {task.bar}."
    return f"## {task.env}\n\n{command}\n\n{bar}\n\n{table(task, rows)}\n"


def table(task: Task, rows: Sequence[Row]) -> str:
    """What the recipes earned, over the task's seeds."""
    columns = ("algorithm", "steps", "mean", "IQM", "95 % interval", "worst seed", "sampled", "n", "", "seconds", "day")
    return markdown(columns, [line(task, algo, rows) for algo in task.algos])


def line(task: Task, algo: str, rows: Sequence[Row]) -> list[Any]:
    from policygrad.run.statistics import summary

    steps, found = f"{tuned(algo, task.env).total_timesteps:,}", rows_of(task, algo, rows)
    if not found:
        return [algo, steps, None, "", "", "", "", 0, None, "", ""]
    greedy = [row["greedy"] for row in found]
    sampled = [row["sampled"] for row in found if row["sampled"] is not None]
    what, absent = summary(greedy), len(task.seeds) - len(found)
    passes = None if task.passes is None else task.passes(greedy)
    return [
        algo,
        steps,
        f"{what['mean']:.1f}",
        f"{what['iqm']:.1f}",
        f"{what['low']:.1f} to {what['high']:.1f}" if len(found) > 1 else "",
        f"{min(greedy):.1f}",
        f"{mean(sampled):.1f}" if sampled else "",
        len(found),
        f"{absent} seeds not run" if absent else verdict(what["mean"], passes),
        f"{seconds_of(found):.0f}",
        max(row["date"] for row in found),
    ]


def seconds_of(rows: Sequence[Row]) -> float:
    """Wall seconds of training of all these seeds: those that were trained together share theirs."""
    return sum(row["seconds"] / row["seeds_together"] for row in rows)


def parse_args() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--env", default="CartPole-v1", help="default: CartPole-v1")
    made.add_argument("--algo", default="a2c", help="default: a2c")
    made.add_argument("--seeds", type=seeds_of, metavar="A:B", help="default: those of the table, from 100")
    made.add_argument("--timesteps", type=int, metavar="N", help="another budget, to try it out: no row of the table")
    made.add_argument("--all", action="store_true", help="every row of the tables that is missing")
    made.add_argument("--table", action="store_true", help="measure nothing; print the tables")
    made.add_argument("--page", action="store_true", help="measure nothing; write docs/17-recipes.md anew")
    return made.parse_args()


if __name__ == "__main__":
    main()
