"""``policygrad train``: every field of the recipe is an option."""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

from policygrad import __version__
from policygrad.cli.parser import Parser, UsageError
from policygrad.cli.signals import importing
from policygrad.envs import registry
from policygrad.run.devices import spare_threads, spare_threads_of
from policygrad.run.initial import with_model_of
from policygrad.run.progress import Progress
from policygrad.run.recipes import (
    CHANGEABLE,
    LISTS,
    PRESETS,
    WORDS,
    Hint,
    Preset,
    Recipe,
    get_preset,
    hint_of,
    make_recipe,
    read_numbers,
)
from policygrad.run.tuned import TUNED, tuned

GROUPS = {
    "what": "the run",
    "ladder": "the ladder: Ψ = correction · (target − baseline)",
    "critic": "the critic",
    "gradient": "the gradient and the step",
    "collecting": "who plays",
    "workers": "many workers",
    "model": "the model",
    "watching": "watching it",
}
"""Titles of the option groups, in order."""

BESIDE_RESUME = ("resume", *CHANGEABLE, "no_tensorboard", "wandb", "quiet")
"""What may stand beside --resume: everything else is in the run's recipe."""


def main(argv: list[str]) -> int:
    given = vars(parser(get_preset(chosen_algorithm(argv))).parse(argv))
    return resume(given) if "resume" in given else start(given)


def start(given: dict[str, Any]) -> int:
    """A new run. Options are checked, and the first line is printed, before JAX is imported."""
    changes = with_model_of({name: value for name, value in given.items() if name in hints()})
    algo, env = given.get("algo", "a2c"), given.get("env", "CartPole-v1")
    settings = given.get("recipe", "tuned" if (env, algo) in TUNED else "preset")
    recipe = (tuned if settings == "tuned" else make_recipe)(algo, env, **changes)
    registry.require_trainable(recipe.env)
    spare_threads(recipe)
    say = teller(given)
    say(f"policygrad {__version__}: {recipe.algo} on {describe(recipe.env)}, {counted(recipe)}")
    if settings == "tuned" and TUNED[env, algo].changes:
        say("settings: those tuned for it (`policygrad list recipes`); the preset's own with --recipe preset")
    with importing():
        from policygrad.envs.checker import check_named
        from policygrad.run import api
    if registry.is_own(recipe.env):
        limit = recipe.max_episode_steps
        options: dict[str, Any] = {"env_kwargs": recipe.env_options, "wrappers": recipe.wrappers}
        for warning in check_named(recipe.env, **options, max_episode_steps=limit, steps=200):
            say(f"note: {warning}")
    say("compiling ...")
    run = api.begin(recipe.env, recipe, out=given.get("out", "runs"), path=given.get("path"))
    return proceed(run, given)


def resume(given: dict[str, Any]) -> int:
    """Go on with a run."""
    refused = [name for name in given if name not in BESIDE_RESUME]
    if refused:
        shown = "ENV" if refused[0] == "env" else option_name(refused[0])
        may = ", ".join(map(option_name, CHANGEABLE))
        why = f"a run keeps its recipe, and only {may} may change"
        raise UsageError(f"{shown} cannot be given with --resume: {why}")
    say = teller(given)
    say(f"policygrad {__version__}: going on with {given['resume']}")
    spare_threads_of(given["resume"])
    with importing():
        from policygrad.run import api
    run = api.reopen(given["resume"], **{name: given[name] for name in CHANGEABLE if name in given})
    if run.finished:
        say(f"{run.path} is finished, after {run.env_steps.min():,} steps: {how_to_go_on(run)}")
        return 0
    steps = f"from step {run.env_steps.min():,} to {run.recipe.total_timesteps:,}"
    say(f"{run.recipe.algo} on {describe(run.recipe.env)}, {steps}")
    say("compiling ...")
    return proceed(run, given)


def how_to_go_on(run: Any) -> str:
    """Why a run is finished, and which option would change that."""
    if run.env_steps.min() >= run.recipe.total_timesteps:
        return "give a larger --total-timesteps to go on"
    reached = f"stop_reward {run.recipe.stop_reward:g} was reached ({run.best_reward.min():.1f})"
    return f"{reached}; give a higher --stop-reward, or none, to go on"


def proceed(run: Any, given: dict[str, Any]) -> int:
    """Train, show how it goes, and say what came of it."""
    from policygrad.run import api
    from policygrad.run.train import Interrupted

    began, first, quiet = time.monotonic(), int(run.env_steps.sum()), given.get("quiet", False)
    try:
        with Progress(run.recipe.total_timesteps, sys.stderr, quiet=quiet) as progress:
            tensorboard, wandb = not given.get("no_tensorboard", False), given.get("wandb")
            api.proceed(run, callback=progress, tensorboard=tensorboard, wandb=wandb)
    except Interrupted as stop:
        raise Interrupted(f"{stop}; go on with: policygrad train --resume {run.path}", stop.signum) from None
    except BaseException:
        if "resume" not in given:
            run.discard()
        raise
    if quiet:
        print(run.path)
    else:
        print(results(run, int(run.env_steps.sum()) - first, time.monotonic() - began))
    return 0


def results(run: Any, steps: int, seconds: float) -> str:
    """What a run made, and what to try next."""
    best = run.summary()
    where = f"mean over {run.recipe.seeds} seeds" if run.recipe.seeds > 1 else f"{run.recipe.eval_episodes} episodes"
    greedy = f"best greedy return {best['mean']:.1f} ({where})" if best["n"] else "no evaluation"
    twin = f" --env gym:{run.recipe.env}" if run.recipe.env in registry.TWINS else ""
    names = ["metrics.csv", "curve.png", "workers.json", "tensorboard"]
    names += ["checkpoints/best.safetensors", "checkpoints/last.safetensors"]
    old = run.recipe.collect == "dataset"
    then, with_what = ("ope", "--data ANOTHER") if old else ("plot", "--out curve.png")
    return "\n".join(
        [
            f"done: {steps:,} steps in {seconds:.1f} s, {greedy}",
            *spent(run),
            f"made: {run.path}",
            *(f"      {name}" for name in names if (run.path / name).exists()),
            f"next: policygrad eval {run.path}{twin}",
            f"      policygrad {then} {run.path} {with_what}",
        ]
    )


def spent(run: Any) -> list[str]:
    """Where the time went, where that is known: what the user's environment costs, or what the workers did."""
    if hasattr(run.program, "words"):
        return [f"workers: {run.program.words()}"]
    clock = getattr(run.program, "clock", None)
    whole = sum(clock.seconds.values()) if clock is not None else 0.0
    if clock is None or not whole:
        return []
    shares = ", ".join(f"{what} {seconds / whole:.0%}" for what, seconds in clock.seconds.items())
    return [f"time: {shares}, after {clock.compiling:.1f} s of compiling"]


def describe(env: str) -> str:
    """``CartPole-v1, pure-JAX twin of ...``."""
    return registry.describe(env).replace(": ", ", ", 1)


def counted(recipe: Recipe) -> str:
    seeds = f"{recipe.seeds} seed" + ("s" if recipe.seeds > 1 else "")
    return f"{recipe.total_timesteps:,} steps, {seeds}"


def teller(given: dict[str, Any]) -> Callable[[str], None]:
    """``print``, at once; nothing where the user wants quiet."""
    return (lambda line: None) if given.get("quiet") else (lambda line: print(line, flush=True))


# The options


def chosen_algorithm(argv: list[str], prog: str = "policygrad train", default: str = "a2c") -> str:
    """The ``--algo`` of a command line: the defaults that ``--help`` shows depend on it."""
    first = Parser(prog=prog, add_help=False)
    first.add_argument("--algo", default=default)
    return first.parse_known_args(argv)[0].algo


def parser(preset: Preset) -> Parser:
    """Only what the user gives gets into the namespace; the help shows the defaults of ``preset``."""
    made = Parser(
        prog="policygrad train",
        usage="policygrad train [ENV] [--algo NAME] [options]\n"
        "       policygrad train --resume RUN [--total-timesteps N] [--stop-reward X] [--workers N] ...",
        description="Train a policy. Defaults below are those of "
        f"{preset.recipe.algo}: {preset.summary} ({preset.citation}).",
        argument_default=argparse.SUPPRESS,
    )
    option = made.add_argument
    where = "an id (`policygrad list envs`), or your own: file.py:Class or module:Class (default: CartPole-v1)"
    option("env", nargs="?", metavar="ENV", help=where)
    option("--algo", metavar="NAME", help=f"{', '.join(PRESETS)} (default: a2c)")
    recipes = "tuned: found for this environment; preset: the algorithm's own (default: tuned where there is one)"
    option("--recipe", choices=["tuned", "preset"], help=recipes)
    option("--resume", metavar="RUN", help="go on with this run, where it was saved (default: a new run)")
    option("--out", metavar="DIR", help="make the run's folder DIR/ENV/ALGO-1, ALGO-2, ... (default: runs)")
    option("--path", metavar="DIR", help="make exactly this folder (default: one inside --out)")
    option("--no-tensorboard", action="store_true", help="write no TensorBoard files (default: write them)")
    option("--wandb", metavar="PROJECT", help="log to Weights & Biases as well (default: do not)")
    option("--quiet", action="store_true", help="print nothing but the run's folder (default: show progress)")
    groups = {name: made.add_argument_group(title) for name, title in GROUPS.items()}
    for item in dataclasses.fields(Recipe):
        if item.name in hints():
            add_option(groups[item.metadata["group"]], item, getattr(preset.recipe, item.name))
    return made


def hints() -> list[str]:
    """The recipe's fields that are options of their own."""
    return [item.name for item in dataclasses.fields(Recipe) if item.name not in ("algo", "env")]


def add_option(group: Any, item: dataclasses.Field, default: Any) -> None:
    """One field of the recipe as an option."""
    hint = hint_of(item.name)
    choices = item.metadata["choices"]
    words = item.metadata["help"].replace("%", "%%")
    notes = [" | ".join(choices)] if choices else []
    if "default:" not in words or default is not None:
        notes.append(f"default: {shown(default)}")
    words += f" ({'; '.join(notes)})" if notes else ""
    if hint.kind is bool:
        group.add_argument(option_name(item.name), action=argparse.BooleanOptionalAction, help=words)
        return
    metavar = {int: "A-B", float: "X,Y"}[hint.element] if hint.element else METAVARS[hint.kind]
    bare = {"nargs": "?", "const": item.metadata["bare"]} if "bare" in item.metadata else {}
    group.add_argument(option_name(item.name), type=reader(hint), metavar=metavar, help=words, **bare)


def option_name(field: str) -> str:
    return "--" + field.replace("_", "-")


def shown(value: Any) -> str:
    """A field's value as one would type it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ("-" if all(isinstance(x, int) for x in value) else ",").join(map(str, value)) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def reader(hint: Hint) -> Callable[[str], Any]:
    """``text -> value`` of an option. Ranges, choices and combinations are the recipe's to judge."""

    def read(text: str) -> Any:
        if text.lower() == "none" and hint.optional:
            return None
        try:
            return read_numbers(text, hint.element) if hint.element else READERS[hint.kind](text)
        except ValueError:
            wanted = LISTS[hint.element] if hint.element else WORDS[hint.kind]
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}{' or none' if hint.optional else ''}") from None

    return read


def whole(text: str) -> int:
    """``500000``, ``500_000``, ``500,000`` or ``5e5``."""
    text = text.replace(",", "")
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise
        return int(number)


READERS: dict[type, Callable[[str], Any]] = {int: whole, float: float, str: str}
"""How the text of an option becomes a value of its type."""
METAVARS = {int: "N", float: "X", str: "NAME"}
