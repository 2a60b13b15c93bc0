"""``policygrad measure RUN|ENV``: how noisy, how biased is the gradient, and what would help."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from policygrad.cli.parser import Parser, UsageError
from policygrad.cli.signals import importing
from policygrad.ladder.names import OBJECTIVES, RUNGS
from policygrad.run.recipes import read_names


def main(argv: list[str]) -> int:
    args = parser().parse(argv)
    out = free_folder(args.out)
    with importing():
        from policygrad.run import measuring
    options: dict[str, Any] = {
        "behaviour": None if args.behaviour is None else load(args.behaviour), "rungs": split(args.rungs),
        "objective": args.objective, "gamma": args.gamma, "trajectories": args.trajectories, "batch": args.batch,
        "reference": args.reference, "exact": args.exact, "parts": args.parts, "seed": args.seed,
        "max_episode_steps": args.max_episode_steps,
    }  # fmt: skip
    env, policy = subject(args, lambda *who: measuring.plan(*who, **options))
    talk = Talk(quiet=args.json)
    try:
        report = measuring.measure(env, policy, **options, tell=talk)
    finally:
        talk.close()
    if args.json:
        print(json.dumps(report.to_dict(), indent=1, allow_nan=False))
    else:
        print(report)
    if out is not None:
        made = report.save(out)
        print(f"made: {made}", file=sys.stderr if args.json else sys.stdout)
    return 0


def subject(args: argparse.Namespace, check: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    """``(env, policy)``: a run's, or a policy trained for a while on an environment, once ``check`` has let it pass."""
    if is_run(args.subject):
        run = load(args.subject, args.checkpoint)
        return (args.env or run), (run if args.env else None)
    from policygrad.run import api

    if args.env:
        raise UsageError(f"--env is for a run's policy, and {args.subject} is an environment: give one of the two")
    budget = {"total_timesteps": args.after} if args.after else {}
    begun = api.begin(args.subject, args.algo, out=None, seed=args.seed, **budget)
    begun._checkpoint = "last"
    check(begun, None)
    if args.after and not args.json:
        words = f"training {args.algo} on {args.subject} for {args.after:,} steps first (--after 0: a fresh policy)"
        print(words, file=sys.stderr)
    run = api.proceed(begun) if args.after else begun
    run._checkpoint = "last"
    return run, None


def is_run(subject: str) -> bool:
    """Whether a folder is meant: there is a run, or a folder whose name is no environment's."""
    from policygrad.envs import registry

    path = Path(subject)
    if (path / "recipe.json").exists() or subject.startswith("runs/"):
        return True
    return path.is_dir() and not (subject in registry.names() or registry.gymnasium_has(subject))


def load(path: str, checkpoint: str = "last") -> Any:
    from policygrad.run import api

    return api.load(path, checkpoint=checkpoint)


def split(text: str | None) -> list[str] | None:
    """``a,b`` as names."""
    if text is None:
        return None
    names = list(read_names(text))
    if not names:
        raise UsageError("--rungs needs names, such as reinforce-value,gae:0.9, or all")
    return names


def free_folder(out: str | None) -> Path | None:
    """Where the report goes, looked at before the work begins."""
    if out is None:
        return None
    if Path(out).exists() and not Path(out).is_dir():
        raise UsageError(f"--out {out} is a file: give a folder")
    Path(out).mkdir(parents=True, exist_ok=True)
    return Path(out)


class Talk:
    """How far the playing is, on a terminal; silence elsewhere."""

    def __init__(self, *, quiet: bool):
        self.shown, self.quiet, self.began = False, quiet or not sys.stderr.isatty(), time.monotonic()

    def __call__(self, what: str, done: int, of: int) -> None:
        if not self.quiet:
            print(f"\r{what}: {done:,} of {of:,} trajectories", end=" " * 8, file=sys.stderr, flush=True)
            self.shown = True

    def close(self) -> None:
        if self.shown:
            print(file=sys.stderr)


def parser() -> Parser:
    made = Parser(
        prog="policygrad measure",
        usage="policygrad measure RUN|ENV [--rungs NAME,...] [--trajectories N] [--batch N] [--out DIR] [options]",
        description="Measure the policy gradient of one frozen policy: noise, bias and worth of every rung of\n"
        "the ladder, from the same trajectories, each with a 95 % interval; then say in words what would help.",
        epilog="rungs: " + ", ".join(RUNGS) + "\n(gae:0.9, lambda-return:0.9, vtrace:0.9 and n-step:20 set a number)",
    )
    option, default = made.add_argument, " (default: %(default)s)"
    option("subject", metavar="RUN|ENV", help="a run's folder, or an environment on which a policy is trained first")
    option("--rungs", metavar="NAMES", help="names joined by commas, or all (default: the ladder's main steps)")
    option("--objective", choices=OBJECTIVES, default="discounted", help="whose gradient is the true one" + default)
    option("--trajectories", metavar="N", type=int, default=4096, help="episodes for the rungs" + default)
    option("--reference", metavar="N", type=int, help="episodes for the true gradient (default: as many)")
    option("--batch", metavar="N", type=int, default=64, help="trajectories of one gradient" + default)
    option("--exact", action="store_true", help="no sampling: for chain, corridor, grid, cliff, random" + default)
    option(
        "--parts",
        metavar="STATES",
        type=int,
        nargs="?",
        const=256,
        default=0,
        help="also decompose the variance into what state, action and future cause, from so many states (256)"
        + default,
    )
    option("--out", metavar="DIR", help="write report.html, report.json and the pictures there (default: nothing)")
    option("--json", action="store_true", help="print one JSON object and nothing else (default: a table)")
    option("--gamma", metavar="X", type=float, help="discount γ (default: the run's)")
    option(
        "--behaviour",
        metavar="RUN",
        help="the policy of this run acts: importance weights are measured (default: none)",
    )
    add_subject(made, "measure")
    return made


def add_subject(made: Parser, verb: str) -> None:
    """The options that say whose gradient is looked at, and where: what :func:`subject` reads, and the seed."""
    option, default = made.add_argument, " (default: %(default)s)"
    option("--env", metavar="ENV", help=f"{verb} a run's policy there (default: where it was trained)")
    option("--checkpoint", choices=("best", "last"), default="last", help="which policy of a run" + default)
    option("--algo", metavar="NAME", default="a2c-gae", help="with ENV: what trains the policy" + default)
    option("--after", metavar="STEPS", type=int, default=20_000, help="with ENV: for so many steps" + default)
    option("--max-episode-steps", metavar="N", type=int, help="time limit (default: the environment's)")
    option("--seed", metavar="N", type=int, default=0, help="of everything" + default)
