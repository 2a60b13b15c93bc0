"""``policygrad play RUN``: watch a policy, in a window or as a GIF or MP4."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from policygrad.cli.parser import Parser, UsageError
from policygrad.cli.signals import importing


def main(argv: list[str]) -> int:
    args = parser().parse(argv)
    if args.episodes < 1:
        raise UsageError(f"--episodes must be at least 1, not {args.episodes}")
    with importing():
        from policygrad.run import api, video
    run = api.load(args.run, checkpoint=args.checkpoint)
    recipe = run.recipe if args.env is None else replace(run.recipe, env=args.env)
    how = {"episodes": args.episodes, "seed": args.seed, "deterministic": not args.sampled}
    if args.out is not None:
        returns = video.film(run.policy, recipe, Path(args.out), **how)
    else:
        returns = in_a_window(video, run.policy, recipe, how)
    mean = sum(returns) / len(returns)
    print(f"{len(returns)} episode{'s' if len(returns) > 1 else ''}, mean return {mean:.1f}")
    if args.out is not None:
        print(f"made: {args.out}")
    return 0


def in_a_window(video: Any, policy: Any, recipe: Any, how: dict[str, Any]) -> list[float]:
    """Play on the screen, as fast as Gymnasium shows it."""
    try:
        return video.watch(policy, video.drawable(recipe, "human"), **how)
    except Exception as error:
        if type(error).__module__.startswith("pygame"):
            raise RuntimeError(f"there is no screen to play on ({error}): give --out FILE.gif") from error
        raise


def parser() -> Parser:
    made = Parser(
        prog="policygrad play",
        usage="policygrad play RUN [--out FILE.gif|FILE.mp4] [--episodes N] [options]",
        description="Watch a trained policy play on Gymnasium's environment: in a window, or as a picture that moves.",
    )
    option, default = made.add_argument, " (default: %(default)s)"
    option("run", metavar="RUN", help="the run's folder, such as runs/CartPole-v1/a2c-1")
    option("--out", metavar="FILE", help="a .gif, or a .mp4 where ffmpeg is there (default: a window)")
    option("--episodes", metavar="N", type=int, default=1, help="how many" + default)
    option("--env", metavar="ENV", help="where to play (default: where it was trained)")
    option("--sampled", action="store_true", help="sample actions instead of taking the greedy ones" + default)
    option("--checkpoint", choices=("best", "last"), default="best", help="best by evaluation, or the last" + default)
    option("--seed", metavar="N", type=int, default=0, help="of the first episode" + default)
    return made
