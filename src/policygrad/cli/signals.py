"""Ctrl-C and SIGTERM end a command cleanly: no traceback, nothing half-written."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end."""

    def __init__(self, signum: int) -> None:
        super().__init__("stopped")
        self.signum = signum


@contextmanager
def handling(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Both signals go to ``handler`` inside. Only the main thread may say so; elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {signum: signal.signal(signum, handler) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, before in old.items():
            signal.signal(signum, before)


def stoppable() -> Any:
    """Inside, a signal raises :class:`Stopped`, so that everything unwinds and cleans up."""

    def stop(signum: int, frame: Any) -> None:
        raise Stopped(signum)

    return handling(stop)


def importing() -> Any:
    """Inside, a signal ends the process at once: an exception in the middle of an import would be half-caught there."""

    def leave(signum: int, frame: Any) -> None:
        print("\npolicygrad: stopped", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(128 + signum)

    return handling(leave)
