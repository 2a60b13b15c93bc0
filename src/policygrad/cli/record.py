"""``policygrad record RUN --out DATASET``: whole episodes of a trained policy, kept as a dataset."""

import argparse
from typing import Any

from policygrad.cli.parser import Parser
from policygrad.cli.signals import importing


def main(argv: list[str]) -> int:
    args = parser().parse(argv)
    with importing():
        from policygrad.run import api
        from policygrad.run.recording import record
    run = api.load(args.run, checkpoint=args.checkpoint)
    dataset = record(
        run, args.env, episodes=args.episodes, out=args.out, deterministic=args.mode == "greedy", seed=args.seed,
        max_episode_steps=args.max_episode_steps,
    )  # fmt: skip
    print(results(args, run, dataset))
    return 0


def parser() -> Parser:
    made = Parser(
        prog="policygrad record",
        usage="policygrad record RUN --out DATASET [--episodes N] [options]",
        description="Play whole episodes with a trained policy and keep them, with log μ(a) of every action.\n"
        "What ends with .safetensors holds everything; .csv and .parquet hold one row a step; minari:NAME is Minari's.",
    )
    option, default = made.add_argument, " (default: %(default)s)"
    option("run", metavar="RUN", help="the run's folder, such as runs/CartPole-v1/a2c-1; a clone's too")
    what = "a new .safetensors, .csv or .parquet file, or minari:NAME, such as minari:cartpole/demo-v0"
    option("--out", metavar="DATASET", required=True, help=what + " (default: none, it must be given)")
    option("--episodes", metavar="N", type=int, default=100, help="whole episodes" + default)
    option("--env", metavar="ENV", help="where to play, such as gym:CartPole-v1 (default: where it was trained)")
    modes = made.add_mutually_exclusive_group()
    sampled = "draw the actions from the policy (default: yes)"
    modes.add_argument("--sampled", dest="mode", action="store_const", const="sampled", default="sampled", help=sampled)
    modes.add_argument(
        "--greedy", dest="mode", action="store_const", const="greedy", help="take the likeliest actions (default: no)"
    )
    option("--checkpoint", choices=("best", "last"), default="best", help="best by evaluation, or the last" + default)
    limit = "time limit in place of the environment's own (default: the run's)"
    option("--max-episode-steps", metavar="N", type=int, help=limit)
    option("--seed", metavar="N", type=int, default=0, help="of the episodes and of sampled actions" + default)
    return made


def results(args: argparse.Namespace, run: Any, dataset: Any) -> str:
    """What was made, and what to try next."""
    from policygrad.run.demonstrations import fingerprints

    distinct, table = len(set(fingerprints(dataset))), args.out.lower().endswith((".csv", ".parquet"))
    repeats = distinct < dataset.episodes
    returns, cut = dataset.returns, int((~dataset.terminated).sum())
    between = f"mean {returns.mean():.1f}, least {returns.min():.1f}, greatest {returns.max():.1f}"
    return "\n".join(
        [
            f"{dataset.episodes} episodes of {run.recipe.algo} on {dataset.about['env']}, {args.mode}: "
            f"{dataset.rows:,} steps, {cut} cut by the time limit",
            f"return: {between}",
            f"made: {args.out}" + ("" if dataset.log_mu is not None else ", without log_mu: a mode has no density"),
            *([f"distinct episodes: {distinct}; a clone must be told what to do with twins"] if repeats else []),
            f"next: policygrad clone {args.out}"
            + (f" --env {dataset.about['env']}" if table else "")  # a table does not say where it is from
            + (" --duplicates keep" if repeats else ""),
        ]
    )
