"""``policygrad ope RUN --data DATASET``: what a policy would earn, judged from another policy's episodes."""

import argparse
import json
from typing import Any

from policygrad.cli.parser import Parser, UsageError
from policygrad.cli.signals import importing
from policygrad.run.recipes import read_names

NAMES = "is, wis, pdis, wpdis, dr, wdr"


def main(argv: list[str]) -> int:
    args = parser().parse(argv)
    if args.data is None:
        raise UsageError(
            "--data is missing: give a dataset of another policy (policygrad record RUN --out FILE makes one)"
        )
    if args.estimators == ():
        raise UsageError(f"--estimators names none: give some of {NAMES}")
    if args.seed < 0:
        raise UsageError(f"--seed is {args.seed}; give 0 or more")
    with importing():
        from policygrad.run import api
        from policygrad.run.ope import ope
    run = api.load(args.run, checkpoint=args.checkpoint)
    behaviour = None if args.behaviour is None else api.load(args.behaviour)
    how = {"gamma": args.gamma, "estimators": args.estimators, "level": args.level, "seed": args.seed}
    found = ope(run, args.data, behaviour=behaviour, **how)
    if args.json:
        print(json.dumps(report(args, found), indent=1, allow_nan=False))
        return 0
    seeds = f" (seed {run.recipe.seed} of {run.recipe.seeds})" if run.recipe.seeds > 1 else ""
    print(f"{args.run}: {run.recipe.algo}{seeds}, actions sampled, on {args.data}\n{found}")
    if run.recipe.data == args.data:
        print("note: this policy has learned from these very episodes, which flatter it: judge it on others")
    print(f"next: policygrad eval {args.run}   (plays; compare with its sampled return)")
    return 0


def report(args: argparse.Namespace, found: Any) -> dict[str, Any]:
    """Everything that was found out, in plain values."""
    from policygrad.run.record import json_ready

    return json_ready({"run": args.run, "data": args.data, "checkpoint": args.checkpoint, **found.to_dict()})


def parser() -> Parser:
    made = Parser(
        prog="policygrad ope",
        usage="policygrad ope RUN --data DATASET [--estimators A,B,...] [options]",
        description="Off-policy evaluation: estimate the return of a policy from episodes that another one played,\n"
        "with bootstrap intervals over episodes. A leading w: self-normalised weights (biased, calmer).",
    )
    option, default = made.add_argument, " (default: %(default)s)"
    option("run", metavar="RUN", help="the run's folder: its policy is judged, with its actions sampled")
    option("--data", metavar="DATASET", help="episodes with log-probabilities, such as record makes (default: none)")
    option("--estimators", metavar="A,B", type=read_names, help=f"some of {NAMES} (default: all that can be had)")
    option("--gamma", metavar="X", type=float, default=1.0, help="discount γ of the return" + default)
    option("--behaviour", metavar="RUN", help="run that gives log μ, where the dataset has none (default: none)")
    option("--checkpoint", choices=("best", "last"), default="best", help="which policy of RUN" + default)
    option("--level", metavar="X", type=float, default=0.95, help="of the intervals" + default)
    option("--seed", metavar="N", type=int, default=0, help="of the bootstrap" + default)
    option("--json", action="store_true", help="print one JSON object and nothing else (default: a table)")
    return made
