"""What is good to know and stops nothing: one line on the error stream, each once in a process."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

SAID: set[str] = set()


def note(text: str) -> None:
    if text not in SAID:
        SAID.add(text)
        print(f"policygrad: note: {text}", file=sys.stderr, flush=True)


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Inside, what warns a program is said to the user of the command line, afterwards."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield
    for warning in caught:
        note(str(warning.message))
