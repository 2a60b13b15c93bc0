"""``policygrad sweep ENV``: the γ × λ map, of returns and of what each cell's gradient is worth."""

import argparse
import dataclasses
import json
import sys
import time
from typing import Any

from policygrad.cli.parser import Parser
from policygrad.cli.signals import importing
from policygrad.cli.train import GROUPS, add_option, chosen_algorithm
from policygrad.run.recipes import PRESETS, Preset, Recipe, get_preset, read_numbers

GAMMAS, LAMBDAS = "0.8,0.9,0.96,0.98,0.99,0.995", "0,0.5,0.9,0.96,0.99,1"
NOT_HERE = ("algo", "env", "gamma", "gae_lambda", "seeds", "workers", "stop_reward")
"""Fields of the recipe that are no options here."""
ELSEWHERE = ("workers", "watching")
"""Groups of the recipe that mean nothing here, all but the field below."""
WATCHED = "eval_episodes"


def main(argv: list[str]) -> int:
    algo = chosen_algorithm(argv, "policygrad sweep", "a2c-gae")
    given = vars(parser(get_preset(algo)).parse(argv))
    asked: dict[str, Any] = {name: given.pop(name, default) for name, default in OWN.items()}
    env, as_json = given.pop("env", "CartPole-v1"), given.pop("json", False)
    given.pop("algo", None)
    with importing():
        from policygrad.run.sweep import plan, sweep
    recipe, gammas, lams = plan(env, algo, asked["gamma"], asked["gae_lambda"], asked["seeds"], **given)
    talk = Talk(quiet=as_json)
    runs = len(gammas) * len(lams) * recipe.seeds
    cells = f"{len(gammas)} γ × {len(lams)} λ × {recipe.seeds} seeds"
    budget = f"{recipe.total_timesteps:,} steps each, {runs * recipe.total_timesteps:,} in all"
    talk.say(f"{recipe.algo} on {recipe.env}: {runs:,} runs ({cells}), {budget}")
    try:
        found = sweep(env, algo, **asked, tell=talk, **given)
    except KeyboardInterrupt as stop:
        stop.args = (talk.where(),)
        raise
    finally:
        talk.close()
    if as_json:
        print(json.dumps(found.to_dict(), indent=1, allow_nan=False))
        return 0
    print(f"{found.table()}\n\n{found.best_in_words()}\nmade: {found.path}\n      map.png\n      results.json")
    return 0


OWN: dict[str, Any] = {
    "gamma": read_numbers(GAMMAS, float),
    "gae_lambda": read_numbers(LAMBDAS, float),
    "seeds": 8,
    "score": "curve",
    "out": "runs",
    "trajectories": 2048,
    "batch": 16,
}
"""Options that are no fields of the recipe here, with their defaults."""


class Talk:
    """How far it is: on a terminal one line that changes, elsewhere a line for every tenth."""

    def __init__(self, *, quiet: bool):
        self.quiet, self.live = quiet, sys.stderr.isatty()
        self.began = self.now = time.monotonic()
        self.what, self.done, self.tenth = "", 0.0, -1

    def say(self, text: str) -> None:
        if not self.quiet:
            print(text, flush=True)

    def __call__(self, what: str, done: int, of: int) -> None:
        if what != self.what:
            self.close()
            self.began, self.what, self.tenth = self.now, what, -1
        self.now, self.done = time.monotonic(), done / of
        tenth = 10 * done // of
        if self.quiet or not (self.live or tenth > self.tenth):
            return
        self.tenth = tenth
        left = (self.now - self.began) * (of - done) / max(done, 1)
        start, end = ("\r", " " * 8) if self.live else ("", "\n")
        print(f"{start}{what}: {self.done:.0%}, {left:.0f} s left", end=end, file=sys.stderr, flush=True)

    def where(self) -> str:
        """What a stopped sweep has come to."""
        if self.what == "measuring":
            return f"stopped at {self.done:.0%} of the measuring; the returns of all runs are saved in results.json"
        return f"stopped at {self.done:.0%} of the training; a sweep that is not trained saves nothing"

    def close(self) -> None:
        if self.what and self.live and not self.quiet:
            print(file=sys.stderr)


def parser(preset: Preset) -> Parser:
    """Only what the user gives gets into the namespace; the help shows the defaults of ``preset``."""
    made = Parser(
        prog="policygrad sweep",
        usage="policygrad sweep [ENV] [--gamma X,Y,...] [--gae-lambda X,Y,...] [--seeds N] [--algo NAME] [options]",
        description="Train every γ with every λ, all in one program, and draw the map: returns, and beside them the\n"
        "bias and the variance of each cell's gradient on one policy from the middle of the training.\n"
        f"Defaults below are those of {preset.recipe.algo}.",
        argument_default=argparse.SUPPRESS,
    )
    option = made.add_argument
    option("env", nargs="?", metavar="ENV", help="a pure world (`policygrad list envs`; default: CartPole-v1)")
    option("--gamma", metavar="X,Y", type=numbers, help=f"values of γ (default: {GAMMAS})")
    option("--gae-lambda", metavar="X,Y", type=numbers, help=f"values of λ (default: {LAMBDAS})")
    option("--seeds", metavar="N", type=int, help=f"runs of each cell (default: {OWN['seeds']})")
    names = ", ".join(name for name, preset in PRESETS.items() if preset.recipe.target == "lambda_return")
    option("--algo", metavar="NAME", help=f"one with a λ: {names}, ... (default: a2c-gae)")
    score = "curve: mean return over the whole training; final: greedy return of the last policies (default: curve)"
    option("--score", choices=["curve", "final"], help=f"what the map shows, {score}")
    option("--trajectories", metavar="N", type=int, help="episodes to measure gradients on; 0: do not (default: 2048)")
    option("--batch", metavar="N", type=int, help=f"episodes of one gradient (default: {OWN['batch']})")
    option("--out", metavar="DIR", help="make the folder DIR/ENV/sweep-1, sweep-2, ... (default: runs)")
    option("--json", action="store_true", help="print one JSON object and nothing else (default: tables)")
    groups = {name: made.add_argument_group(title) for name, title in GROUPS.items() if name not in ELSEWHERE}
    for item in dataclasses.fields(Recipe):
        group = groups.get(item.metadata["group"], groups["what"] if item.name == WATCHED else None)
        if group is not None and item.name not in NOT_HERE:
            add_option(group, item, getattr(preset.recipe, item.name))
    return made


def numbers(text: str) -> tuple[float, ...]:
    """``0.9,0.99``."""
    try:
        return read_numbers(text, float)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers joined by ',', such as 0.9,0.99") from None
