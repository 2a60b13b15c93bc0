"""``policygrad check``: play an environment for a while, and say in words what is wrong with it."""

from policygrad.cli.parser import Parser
from policygrad.cli.signals import importing
from policygrad.envs import registry


def main(argv: list[str]) -> int:
    given = parser().parse(argv)
    registry.require_trainable(given.env)
    with importing():
        from policygrad.envs.checker import EnvError, check_env
    try:
        env = given.env if registry.is_host(given.env) else registry.make(given.env)
        warnings = check_env(env, steps=given.steps, seed=given.seed)
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
        usage="policygrad check ENV [--steps N] [--seed N]",
        description="Play an environment for a while, and say in words what is wrong with it (exit code 1). Notes are\n"
        "about what may be meant, but seldom is.",
    )
    made.add_argument("env", metavar="ENV", help="an id, module:Class or file.py:Class")
    made.add_argument("--steps", type=int, default=1000, metavar="N", help="random steps (default: 1000)")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of environment and actions (default: 0)")
    return made
