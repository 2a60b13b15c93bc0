"""``policygrad eval RUN``: whole episodes, greedy and sampled, each mean with its 95 % interval."""

import argparse
import json
import math
from functools import partial
from typing import Any

from policygrad.cli.parser import Parser
from policygrad.cli.signals import importing

MODES = {"greedy": True, "sampled": False}
"""How actions are chosen, and whether that is deterministic."""


def main(argv: list[str]) -> int:
    args = parser().parse(argv)
    with importing():
        from policygrad.run import api
    run = api.load(args.run, checkpoint=args.checkpoint)
    play = partial(run.evaluate, args.env, episodes=args.episodes, seed=args.seed)
    report = report_of(run, args, {mode: play(deterministic=flag) for mode, flag in MODES.items()})
    print(json.dumps(report, indent=2, allow_nan=False) if args.json else table(report))
    return 0


def parser() -> Parser:
    made = Parser(
        prog="policygrad eval",
        usage="policygrad eval RUN [--env ENV] [--episodes N] [options]",
        description="Play whole episodes with a trained policy: greedy (the mode of π) and sampled.\n"
        "Intervals are 95 % bootstrap intervals: over episodes in a seed's row, over seeds in the last one.",
    )
    option, default = made.add_argument, " (default: %(default)s)"
    option("run", metavar="RUN", help="the run's folder, such as runs/CartPole-v1/a2c-1")
    option("--env", metavar="ENV", help="where to play, such as gym:CartPole-v1 (default: where it was trained)")
    option("--episodes", metavar="N", type=int, default=100, help="episodes per seed and mode" + default)
    option("--checkpoint", choices=("best", "last"), default="best", help="best by evaluation, or the last" + default)
    option("--seed", metavar="N", type=int, default=1_000_003, help="of the episodes and of sampled actions" + default)
    option("--json", action="store_true", help="print one JSON object and nothing else (default: a table)")
    return made


def report_of(run: Any, args: argparse.Namespace, evaluations: dict[str, list[Any]]) -> dict[str, Any]:
    """Everything that was found out, in plain values. An interval of one number is null: nothing is known about it."""
    from policygrad.run.record import json_ready
    from policygrad.run.statistics import summary

    report: dict[str, Any] = {
        "run": str(run.path),
        "algo": run.recipe.algo,
        "env": args.env or run.recipe.env,
        "checkpoint": checkpoint_of(run, args.checkpoint),
        "max_episode_steps": run.recipe.max_episode_steps,
        "episodes": args.episodes,
        "seed": args.seed,
    }
    for mode, found in evaluations.items():
        rows = [{"seed": run.recipe.seed + i, **evaluation.to_dict()} for i, evaluation in enumerate(found)]
        report[mode] = {"seeds": rows, "over_seeds": summary([row["mean"] for row in rows])}
    return json_ready(report)


def checkpoint_of(run: Any, asked: str) -> str:
    """Which policy was played: without evaluations there is no best one."""
    unknown = asked == "best" and any(math.isinf(reward) for reward in run.best_reward)
    return "no evaluation: last" if unknown else asked


def table(report: dict[str, Any]) -> str:
    """One row per seed; with several seeds the mean and the interquartile mean over them."""
    limit = report["max_episode_steps"]
    cut = f", of at most {limit:,} steps" if limit else ""
    lines = [
        "{run}: {algo}, {checkpoint} checkpoint, {episodes} episodes on {env}".format(**report) + cut,
        f"{'':<8}" + "".join(f"{mode + ' return':>14} {'95 % interval':<20}" for mode in MODES),
    ]
    rows = [report[mode]["seeds"] for mode in MODES]
    lines += [f"seed {own[0]['seed']:<3}" + "".join(cell(one["mean"], one) for one in own) for own in zip(*rows)]
    if len(rows[0]) > 1:
        totals = [report[mode]["over_seeds"] for mode in MODES]
        lines.append(f"{'mean':<8}" + "".join(cell(total["mean"], total) for total in totals))
        lines.append(f"{'IQM':<8}" + "".join(cell(total["iqm"], None) for total in totals))
    return "\n".join(line.rstrip() for line in lines)


def cell(number: float, interval: dict[str, Any] | None) -> str:
    known = interval is not None and interval["low"] is not None
    between = f"[{interval['low']:.1f}, {interval['high']:.1f}]" if known and interval is not None else ""
    return f"{number:>14.1f} {between:<20}"
