"""``policygrad plot RUN...``: learning curves with intervals over seeds."""

import json
from typing import Any

from policygrad.cli.parser import Parser, UsageError
from policygrad.cli.signals import importing

RETURN = "rollout/ep_rew_mean"
SEEDS = ("seed", "seeds")
"""The fields of a recipe in which the runs of one curve may differ."""


def main(argv: list[str]) -> int:
    args = parser().parse(argv)
    with importing():
        from policygrad.run.plots import learning_curves
        from policygrad.run.record import RunDirectory
    directories = [RunDirectory.open(path) for path in args.runs]
    old = all(directory.read_recipe().get("collect") == "dataset" for directory in directories)  # nobody plays there
    key = args.key or ("eval/mean_reward" if old else RETURN)
    curves, recipes = pool(directories, key)
    envs = {recipe["env"] for recipe in recipes}
    drawn = learning_curves(
        dict(zip(labels(recipes), curves)),
        args.out,
        title=" and ".join(sorted(envs)),
        y_label="episode return" if key == RETURN else key,
        small_multiples=args.panels,
    )
    print(drawn)
    return 0


def parser() -> Parser:
    made = Parser(
        prog="policygrad plot",
        usage="policygrad plot RUN... [--out FILE] [options]",
        description="Draw learning curves. Runs whose recipes differ in nothing but their seeds are one curve:\n"
        "the mean over all their seeds, with a 95 % bootstrap interval. Every other run is a curve of\n"
        "its own, named after what differs.",
    )
    option, default = made.add_argument, " (default: %(default)s)"
    option("runs", nargs="+", metavar="RUN", help="the runs' folders")
    option("--out", metavar="FILE", default="curves.png", help="picture: .png, .svg or .pdf" + default)
    option("--key", metavar="KEY", help=f"column of metrics.csv (default: {RETURN}; of old data eval/mean_reward)")
    option("--panels", action="store_true", help="a panel per curve, with every seed (default: all in one)")
    return made


def pool(directories: list[Any], key: str) -> tuple[list[list], list[dict[str, Any]]]:
    """The curves of every set of equal recipes, one per seed, and the recipe of each set (without its seeds)."""
    from policygrad.run.recipes import Recipe
    from policygrad.run.record import SEED, read_metrics, seed_curves

    pools: dict[str, tuple[list, dict[str, Any], set[int]]] = {}
    for directory in directories:
        whole = Recipe.from_dict(directory.read_recipe()).to_dict()
        recipe = {name: value for name, value in whole.items() if name not in SEEDS}
        metrics = read_metrics(directory.metrics)
        curves, _, seeds = pools.setdefault(json.dumps(recipe, sort_keys=True), ([], recipe, set()))
        twice = seeds & set(metrics[SEED].tolist())
        if twice:
            again = f"{directory.path} repeats seed {min(twice)} of another run with the same recipe"
            raise UsageError(f"{again}: leave one of the two out")
        seeds |= set(metrics[SEED].tolist())
        curves += seed_curves(metrics, key)
    return [curves for curves, _, _ in pools.values()], [recipe for _, recipe, _ in pools.values()]


def labels(recipes: list[dict[str, Any]]) -> list[str]:
    """A name per curve: the algorithm, and whatever tells it from the others of that algorithm."""
    siblings = [[other for other in recipes if other["algo"] == recipe["algo"]] for recipe in recipes]
    return [" ".join([recipe["algo"], *differences(recipe, others)]) for recipe, others in zip(recipes, siblings)]


def differences(recipe: dict[str, Any], others: list[dict[str, Any]]) -> list[str]:
    """``gamma=0.9`` for every field in which some other recipe differs."""
    names = [name for name in recipe if any(other.get(name) != recipe[name] for other in others)]
    return [str(recipe[name]) if name == "env" else f"{name}={recipe[name]}" for name in names]
