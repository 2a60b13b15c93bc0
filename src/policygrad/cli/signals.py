"""Ctrl-C and SIGTERM end a command cleanly: no traceback, nothing half-written. The second one ends it at once."""

import atexit
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AT_ONCE = "stopped at once; what was saved before stands"
TRACKER = "ignore:resource_tracker:UserWarning"
"""Python's process that removes what others leave behind says so: here that is its task."""


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end."""

    def __init__(self, signum: int) -> None:
        super().__init__("stopped")
        self.signum = signum


@contextmanager
def handling(handler: Callable[[int, Any], None], *, last: bool = False) -> Iterator[None]:
    """Both signals go to ``handler`` inside. Only the main thread may say so; elsewhere nothing changes.

    Args:
        last: the process ends behind this. After a signal another one ends it at once; without one it is too late.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old: dict[int, Any] = {signum: signal.signal(signum, handler) for signum in SIGNALS}
    try:
        yield
        old = dict.fromkeys(SIGNALS, signal.SIG_IGN) if last else old  # all is done, and Python only has to end
    except KeyboardInterrupt:
        old = dict.fromkeys(SIGNALS, go) if last else old
        raise
    finally:
        for signum, before in old.items():
            signal.signal(signum, before)


said_why = threading.Event()
"""The last sentence has been printed."""
speaking = threading.RLock()
stopped_by: list[int] = []
"""The signal that ended the command, once one has."""
kept: list[Any] = []


def go(signum: int, frame: Any) -> None:
    """End a process that was ending anyway."""
    leave(signum, "stopped")


def say_why(words: str) -> None:
    """Print the last sentence, unless the listener was quicker."""
    with speaking:
        if stopped_by and said_why.is_set():
            return
        said_why.set()
        print(words, file=sys.stderr, flush=True)


@contextmanager
def stoppable(*, last: bool = False) -> Iterator[None]:
    """Inside, a signal raises :class:`Stopped`, so that everything unwinds and cleans up; a second ends the process.

    Args:
        last: see :func:`handling`.
    """

    def stop(signum: int, frame: Any) -> None:
        raise Stopped(signum)

    if last:
        atexit.register(gone)  # the first to be registered, and so the last to be called
    with second_time_at_once(last=last), handling(stop, last=last):
        yield


def gone() -> None:
    """Everything is cleaned up. Python now gives up its handlers, and a signal would change the exit code; and where a
    signal ended the command, Python would wait for what XLA still computes."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    if stopped_by:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(128 + stopped_by[0])


@contextmanager
def second_time_at_once(*, last: bool = False) -> Iterator[None]:
    """Inside, the second signal ends the process, whatever that is doing: compiling, saving, cleaning up.

    Handlers in Python wait for the main thread, which may be in XLA for seconds. Python tells a socket at once, and a
    thread listens there; with ``last`` to the very end, once a first signal has come.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    os.environ.setdefault("PYTHONWARNINGS", TRACKER)
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    listener = threading.Thread(target=listen, args=(ear,), daemon=True)
    listener.start()
    before = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    try:
        yield
    except KeyboardInterrupt as stop:
        if last:
            stopped_by.append(getattr(stop, "signum", signal.SIGINT))
        raise
    finally:
        if stopped_by:
            kept.extend((ear, mouth))  # the listener goes on to the end
        else:
            signal.set_wakeup_fd(before)
            mouth.close()
            listener.join()  # it has heard everything that was said
            ear.close()


def listen(ear: socket.socket) -> None:
    """Every signal is a byte; the second one of ours ends the process."""
    heard = 0
    while said := ear.recv(1):
        heard += said[0] in SIGNALS
        if heard == 2:
            leave(said[0], AT_ONCE)


def leave(signum: int, words: str) -> None:
    """End this process now, and those that it started; nothing unwinds. Who has said why says no more."""
    with speaking:
        if not said_why.is_set():
            said_why.set()
            os.write(2, f"\npolicygrad: {words}\n".encode())
    if "multiprocessing" in sys.modules:
        for child in sys.modules["multiprocessing"].active_children():
            child.kill()
    os._exit(128 + signum)


def importing() -> Any:
    """Inside, a signal ends the process at once: an exception in the middle of an import would be half-caught there."""

    def end(signum: int, frame: Any) -> None:
        sys.stdout.flush()
        leave(signum, "stopped")

    return handling(end)
