"""argparse with the manners that we want: no abbreviations, no exits, and the nearest name for a typo."""

import argparse
import re
import shutil
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn


class UsageError(ValueError):
    """A command line that cannot be understood; the message says what to write instead."""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Wide enough for our long option names; descriptions keep their lines."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=min(120, shutil.get_terminal_size((100, 24)).columns))


class Parser(argparse.ArgumentParser):
    """A parser that raises :class:`UsageError` where argparse would print its usage and leave."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=Formatter, **kwargs)
        self._negative_number_matcher = re.compile(r"-\.?\d")  # argparse's own takes -1e-3 and -0.5,1.5 for options

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The options in ``argv``; an unknown one is an error that names the nearest."""
        args, rest = self.parse_known_args(argv)
        if rest:
            self.error(self.explain(next((arg for arg in rest if arg.startswith("-")), rest[0])))
        return args

    def explain(self, unknown: str) -> str:
        if not unknown.startswith("-"):
            return f"unexpected argument {unknown!r}"
        name = unknown.split("=")[0]
        near = get_close_matches(name.replace("_", "-"), self._option_string_actions, n=1)
        return f"unknown option {name}" + (f": did you mean {near[0]}?" if near else "")

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see `{self.prog} --help`)")
