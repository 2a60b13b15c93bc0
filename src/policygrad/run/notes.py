"""What is good to know and stops nothing: one line on the error stream, each once in a process."""

import sys

SAID: set[str] = set()


def note(text: str) -> None:
    if text not in SAID:
        SAID.add(text)
        print(f"policygrad: note: {text}", file=sys.stderr, flush=True)
