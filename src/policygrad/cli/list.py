"""``policygrad list``: the algorithms, as what each changes in another, and the environments. It imports no JAX."""

import textwrap
from difflib import get_close_matches
from typing import Any

from policygrad.cli.parser import Parser, UsageError
from policygrad.cli.train import option_name, shown
from policygrad.envs import registry
from policygrad.run.recipes import PRESETS
from policygrad.run.tuned import RESULTS, TUNED

GLUE = "\N{NO-BREAK SPACE}"
HOW_TO_READ = "Each algorithm is another one with changes: the ladder. Options are those of `policygrad train`."


def main(argv: list[str]) -> int:
    what = parser().parse(argv).what
    print(listing(what))
    return 0


def parser() -> Parser:
    made = Parser(
        prog="policygrad list",
        usage="policygrad list [algorithms | envs | recipes | NAME]",
        description="List the algorithms and environments, or describe one of them.",
    )
    words = "algorithms, envs, recipes, or the name of one (default: both lists)"
    made.add_argument("what", nargs="?", metavar="WHAT", default="all", help=words)
    return made


def listing(what: str) -> str:
    if what == "all":
        return f"{algorithms()}\n\n{environments()}"
    if what in ("algorithms", "algos"):
        return algorithms()
    if what in ("envs", "environments"):
        return environments()
    if what == "recipes":
        return recipes()
    if what in PRESETS:
        return f"{algorithm(what)}\n\nTry: policygrad train CartPole-v1 --algo {what}"
    if what in registry.ENTRIES or is_elsewhere(what):
        return f"{registry.describe(what)}\n\nTry: policygrad train {what}"
    near = get_close_matches(what, ["algorithms", "envs", "recipes", *PRESETS, *registry.ENTRIES], n=1)
    hint = f": did you mean {near[0]}?" if near else "; `policygrad list` shows all"
    raise UsageError(f"there is no algorithm or environment {what!r}{hint}")


def is_elsewhere(what: str) -> bool:
    """Whether the name is that of an environment which is not ours."""
    return what.startswith((registry.HOST_PREFIX, *registry.ELSEWHERE)) or registry.gymnasium_has(what)


def recipes() -> str:
    """The tuned recipes: what `--recipe tuned` changes in a preset, the command, and what it earned."""
    head = "Tuned recipes. A return is the mean over seeds of the best checkpoint's 100 greedy episodes."
    return "\n".join([head, *(recipe(env, algo) for env, algo in TUNED)])


def recipe(env: str, algo: str) -> str:
    """One of them: its changes, its command, its result."""
    found, result = TUNED[env, algo], RESULTS.get((env, algo))
    changes = [typed(field, value) for field, value in found.changes.items()]
    words = " ".join([f"{env} {algo}: {found.total_timesteps:,} steps", *changes])
    earned = (
        "not measured"
        if result is None
        else f"return {result.mean:.1f}, 95 % interval {result.low:.1f} to {result.high:.1f}, seeds {result.seeds}"
    )
    return "\n".join(
        [
            "",
            textwrap.fill(words, 110, subsequent_indent="      ", break_on_hyphens=False).replace(GLUE, " "),
            f"    {earned}",
            f"    policygrad train {env} --algo {algo} --recipe tuned",
        ]
    )


def algorithms() -> str:
    return "\n".join(["Algorithms", HOW_TO_READ, "", *map(algorithm, PRESETS)])


def algorithm(name: str) -> str:
    """Name, summary, citation, and the options that make it out of its parent."""
    preset = PRESETS[name]
    head = f"{name}: {preset.summary}. {preset.citation}"
    changes = [typed(field, value) for field, value in preset.changes.items()]
    origin = " ".join([f"= {preset.parent}", *changes]) if preset.parent else "the first rung"
    lines = textwrap.fill(origin, 110, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False)
    return f"{head}\n{lines.replace(GLUE, ' ')}"


def typed(field: str, value: Any) -> str:
    """A change as an option; no line breaks between its name and its value."""
    if isinstance(value, bool):
        return option_name(field) if value else option_name(f"no_{field}")
    return f"{option_name(field)}{GLUE}{shown(value)}"


def environments() -> str:
    width = max(map(len, registry.ENTRIES))
    lines = [f"  {name:<{width}}  {description}" for name, description in registry.names().items()]
    others = {
        "ID, gym:ID": "Gymnasium's own environments, stepped on the host: LunarLander-v3, gym:CartPole-v1",
        "module:ID": "the same, after importing a module that registers them",
        "file.py:Class": "your own, also module:Class: anything with the methods of policygrad.Env, or a gymnasium.Env",
        **{f"{prefix}ID": f"{words} (extra {extra})" for prefix, (_, extra, words) in registry.ELSEWHERE.items()},
    }
    lines += [f"  {name:<{width}}  {description}" for name, description in others.items()]
    return "\n".join(["Environments", *lines])
