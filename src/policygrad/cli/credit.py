"""``policygrad credit RUN|ENV``: which actions get the credit, and how far a step may go."""

import json
import sys
from typing import Any

from policygrad.cli.measure import add_subject, free_folder, split, subject
from policygrad.cli.parser import Parser, UsageError
from policygrad.cli.signals import importing
from policygrad.ladder.names import OBJECTIVES, RUNGS


def main(argv: list[str]) -> int:
    args = parser().parse(argv)
    if not 0 < args.kl < float("inf"):
        raise UsageError(f"--kl is {args.kl:g}: a step needs a positive length, in nats per row")
    rungs, out = split(args.rungs), free_folder(args.out)
    with importing():
        from policygrad.run.crediting import credit, plan
    options: dict[str, Any] = {
        "rungs": rungs, "objective": args.objective, "gamma": args.gamma, "trajectories": args.trajectories,
        "fresh": args.fresh, "max_episode_steps": args.max_episode_steps, "seed": args.seed,
    }  # fmt: skip
    env, policy = subject(args, lambda *who: plan(*who, **options))
    report = credit(env, policy, kl=args.kl, episode=args.episode, **options)
    print(json.dumps(report.to_dict(), indent=1, allow_nan=False) if args.json else report)
    if out is not None:
        folder = report.save(out)
        names = "credit.svg, credit.json" + (", steps.svg" if report.curves else "")
        print(f"made: {folder} ({names})", file=sys.stderr if args.json else sys.stdout)
    elif not args.json:
        print("try: --out DIR draws it")
    return 0


def which(text: str) -> Any:
    """A number or a word."""
    return int(text) if text.lstrip("-").isdigit() else text


def parser() -> Parser:
    made = Parser(
        prog="policygrad credit",
        usage="policygrad credit RUN|ENV [--rungs NAME,...] [--trajectories N] [--episode WHICH] [--out DIR] [options]",
        description="Who gets the credit: the weight of every action of an episode on each rung of the ladder, and\n"
        "how much likelier one gradient step makes it; whether good episodes go up and bad ones down; and how far\n"
        "a step may go, judged by fresh episodes. Maximum likelihood, where every weight is 1, stands beside.",
        epilog="rungs: " + ", ".join(RUNGS) + "\n(gae:0.9, lambda-return:0.9, vtrace:0.9 and n-step:20 set a number)",
    )
    option, default = made.add_argument, " (default: %(default)s)"
    option("subject", metavar="RUN|ENV", help="a run's folder, or an environment on which a policy is trained first")
    rungs = "names joined by commas, or all (default: reinforce, reinforce-togo, and gae or reinforce-mean)"
    option("--rungs", metavar="NAMES", help=rungs)
    option("--trajectories", metavar="N", type=int, default=64, help="of the batch that is learned from" + default)
    shown = "the one that is shown row by row: best, median, worst or its number" + default
    option("--episode", metavar="WHICH", type=which, default="median", help=shown)
    option("--kl", metavar="X", type=float, default=0.001, help="length of the one step, in nats per row" + default)
    fresh = "episodes after each of nine steps of growing length, in pure worlds; 0: none" + default
    option("--fresh", metavar="N", type=int, default=128, help=fresh)
    option("--objective", choices=OBJECTIVES, default="approximation", help="what Ψ keeps of γ^t" + default)
    option("--gamma", metavar="X", type=float, help="discount γ (default: the run's)")
    option("--out", metavar="DIR", help="write the pictures and credit.json there (default: nothing)")
    option("--json", action="store_true", help="print one JSON object and nothing else (default: a table)")
    add_subject(made, "look at")
    return made
