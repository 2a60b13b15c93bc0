"""``policygrad check``: play an environment for a while, and say in words what is wrong with it."""

from policygrad.cli.parser import Parser
from policygrad.cli.signals import importing
from policygrad.envs import registry
from policygrad.run.recipes import read_names, read_options


def main(argv: list[str]) -> int:
    given = parser().parse(argv)
    registry.require_trainable(given.env)
    options = read_options(given.env_kwargs)
    wrappers = read_names(given.wrapper)
    with importing():
        from policygrad.envs.checker import EnvError, check_named
    try:
        warnings = check_named(given.env, env_kwargs=options, wrappers=wrappers, steps=given.steps, seed=given.seed)
    except EnvError as error:
        print(f"wrong: {error}")
        return 1
    for warning in warnings:
        print(f"note: {warning}")
    print(f"{registry.describe(given.env)}: fit for training ({given.steps:,} random steps)")
    return 0


def parser() -> Parser:
    made = Parser(
        prog="policygrad check",
        usage="policygrad check ENV [--env-kwargs OPTIONS] [--wrapper NAMES] [--steps N] [--seed N]",
        description="Play an environment for a while, and say in words what is wrong with it (exit code 1). Notes are\n"
        "about what may be meant, but seldom is. What is stepped on the host has a process of its own here.",
    )
    made.add_argument("env", metavar="ENV", help="an id, module:Class or file.py:Class")
    options = "of the environment, such as continuous=true,gravity=-9, or JSON (default: none)"
    made.add_argument("--env-kwargs", default="", metavar="OPTIONS", help=options)
    wrappers = "Gymnasium's, module:Class, joined by commas, the innermost first (default: none)"
    made.add_argument("--wrapper", default="", metavar="NAMES", help=wrappers)
    made.add_argument("--steps", type=int, default=1000, metavar="N", help="random steps (default: 1000)")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of environment and actions (default: 0)")
    return made
