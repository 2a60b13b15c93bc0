"""``policygrad clone DATASET``: a policy from demonstrations, by maximum likelihood."""

import argparse
import dataclasses
import sys
import time
from typing import Any

from policygrad.cli.parser import Parser, UsageError
from policygrad.cli.signals import importing
from policygrad.cli.train import GROUPS, add_option, option_name, teller
from policygrad.run.recipes import CLONE, CLONE_FIELDS, Recipe, read_names

BESIDE_RESUME = ("resume", "quiet", "no_tensorboard", "episodes_after")
SECONDS = 2.0
"""Between two lines about the epochs, where no terminal is looking."""


def main(argv: list[str]) -> int:
    given = vars(parser().parse(argv))
    refused = [name for name in given if name not in BESIDE_RESUME]
    if "resume" in given and refused:
        shown = "DATASET" if refused[0] == "dataset" else option_name(refused[0])
        raise UsageError(f"{shown} cannot be given with --resume: a clone keeps its demonstrations and its recipe")
    if "resume" not in given and "dataset" not in given:
        raise UsageError("give a dataset: policygrad clone DATASET (record one with: policygrad record RUN)")
    say, quiet = teller(given), given.pop("quiet", False)
    tensorboard, after = not given.pop("no_tensorboard", False), given.pop("episodes_after", 100)
    with importing():
        from policygrad.run import cloning
        from policygrad.run.notes import warnings_as_notes
        from policygrad.run.train import Interrupted
    began = time.monotonic()
    with warnings_as_notes():
        work = cloning.reopen(given["resume"]) if "resume" in given else cloning.begin(**given)
    run = work.run
    if work.fit.finished:
        say(f"{run.path} is finished")
        return 0
    held, n, rows = 0 if work.held is None else work.held.episodes, work.train.episodes, work.train.rows
    what = "episode" if n == 1 else "episodes"
    say(f"{n} {what} of {run.recipe.env} to learn from ({rows:,} steps), {held} held out")
    talk = Talk(quiet)
    try:
        with warnings_as_notes():
            work.learn(tell=talk, tensorboard=tensorboard)
    except Interrupted as stop:
        raise Interrupted(f"{stop}; go on with: policygrad clone --resume {run.path}", stop.signum) from None
    except BaseException:
        run.discard()
        raise
    finally:
        talk.close()
    if quiet:
        print(run.path)
        return 0
    print(results(work, after, time.monotonic() - began))
    return 0


class Talk:
    """The likelihood as it goes: on a terminal one line that changes, elsewhere one now and then."""

    def __init__(self, quiet: bool):
        self.quiet, self.live, self.spoke = quiet, sys.stderr.isatty(), 0.0

    def __call__(self, row: dict[str, float]) -> None:
        now = time.monotonic()
        if self.quiet or not (self.live or now - self.spoke > SECONDS):
            return
        self.spoke = now
        names = {"train/nll": "nll", "eval/nll": "held out", "eval/accuracy": "accuracy"}
        words = ", ".join(f"{shown} {row[name]:.4f}" for name, shown in names.items() if name in row)
        rounds = f"round {row['train/round']:.0f}, " if "train/round" in row else ""
        start, end = ("\r", " " * 8) if self.live else ("", "\n")
        line = f"{start}{rounds}epoch {row['train/epoch']:.0f}: {words}"
        print(line, end=end, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.live and not self.quiet:
            print(file=sys.stderr)


def results(work: Any, episodes: int, seconds: float) -> str:
    """What came of it: the likelihood, the returns beside the demonstrator's, and what to try next."""
    run, held = work.run, work.held is not None
    rows = [row for row in run._fit.history if "train/epoch" in row]
    lines = [f"done: {len(rows)} epochs in {seconds:.1f} s, {'held-out' if held else 'training'} log-likelihood "
             f"{float(run.best_reward[0]):.4f} nats a step"]  # fmt: skip
    if episodes:
        mean = {flag: run.evaluate(episodes=episodes, deterministic=flag)[0].mean for flag in (False, True)}
        shown = work.demonstrated
        lines.append(f"return: {mean[False]:.1f} sampled, {mean[True]:.1f} greedy; the demonstrator's {shown:.1f}")
    names = ["metrics.csv", "curve.png", "clone.json", "checkpoints/best.safetensors", "checkpoints/last.safetensors"]
    lines += [f"made: {run.path}", *(f"      {name}" for name in names if (run.path / name).exists())]
    lines += [f"next: policygrad eval {run.path}", f"      policygrad train {run.recipe.env} --init-from {run.path}"]
    return "\n".join(lines)


def parser() -> Parser:
    """Only what the user gives gets into the namespace."""
    made = Parser(
        prog="policygrad clone",
        usage="policygrad clone DATASET [--env ENV] [--validation X] [options]\n"
        "       policygrad clone DATASET --dagger N --expert RUN [--episodes K] [--beta X] [options]\n"
        "       policygrad clone --resume RUN",
        description="Imitate demonstrations by maximum likelihood: the policy gradient with all weights 1.\n"
        "A share of the episodes is held out, and says when to stop. With --dagger the clone then plays, and an\n"
        "expert says what it would have done. The result is a run: eval, play, measure, train --init-from.",
        argument_default=argparse.SUPPRESS,
    )
    option = made.add_argument
    what = "a .safetensors, .csv or .parquet file, or minari:NAME (`policygrad record RUN` makes one)"
    option("dataset", nargs="?", metavar="DATASET", help=what)
    option("--env", metavar="ENV", help="the environment that it is from (default: what the dataset says)")
    option("--resume", metavar="RUN", help="go on with this clone (default: a new one)")
    option("--out", metavar="DIR", help="make the run's folder DIR/ENV/clone-1, clone-2, ... (default: runs)")
    option("--path", metavar="DIR", help="make exactly this folder (default: one inside --out)")
    option("--ignore-columns", metavar="A,B", type=read_names, help="columns of a table to leave out (default: none)")
    option("--validation", metavar="X", type=float, help="share of the episodes that is held out (default: 0.1)")
    option("--epochs", metavar="N", type=int, help="most passes over the demonstrations (default: 200)")
    option("--patience", metavar="N", type=int, help="stop after so many passes without a better one (default: 10)")
    rows = "rows of a minibatch; with memory, whole episodes of about so many rows (default: 256)"
    option("--batch-size", metavar="N", type=int, help=rows)
    twins = "of identical episodes on both sides: refuse, drop the held-out ones, or keep all (default: refuse)"
    option("--duplicates", choices=["refuse", "drop", "keep"], help=twins)
    option("--episodes-after", metavar="N", type=int, help="episodes that the clone plays at the end (default: 100)")
    option("--no-tensorboard", action="store_true", help="write no TensorBoard files (default: write them)")
    option("--quiet", action="store_true", help="print nothing but the run's folder (default: show progress)")
    group = made.add_argument_group("DAgger: on the states that the clone reaches itself")
    option = group.add_argument
    option("--dagger", metavar="N", type=int, help="rounds of playing and asking the expert (default: 0)")
    option(
        "--expert", metavar="RUN", help="who is asked: a run, by its best policy (default: nobody; --dagger needs one)"
    )
    option("--episodes", metavar="N", type=int, help="episodes of a round (default: 20)")
    acts = "in round i the expert acts with probability X^i at each step; 0: never (default: 0.5)"
    option("--beta", metavar="X", type=float, help=acts)
    groups = {name: made.add_argument_group(GROUPS[name]) for name in ("what", "gradient", "model")}
    for item in dataclasses.fields(Recipe):
        if item.name in CLONE_FIELDS:
            add_option(groups[item.metadata["group"]], item, getattr(CLONE, item.name))
    return made
