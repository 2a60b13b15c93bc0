"""Workers without XLA: a quadratic, whose gradient is known, and faults on purpose. Importable by worker processes."""

import ctypes
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing import current_process

import numpy as np

from policygrad.parallel.board import Layout
from policygrad.parallel.player import Local, Player, Window

N = 1000
ROWS = 5


def layout(workers):
    return Layout(workers=workers, params=N, opt=1, target=0, normal=0, metrics=1, features=1)


@dataclass
class Fault:
    """A player whose worker ``worker`` does, in the third window of each life, the next of ``what``."""

    what: tuple[str, ...] = ()
    worker: int = -1
    folder: str = ""
    """Holds a file for everything that was done."""

    def __call__(self, beat):
        mine = current_process().name.endswith(f"-{self.worker}")
        windows = iter(range(10**9))

        def play(theta, target, rows, ent_coef, local, clock=None):
            finite = self.do() if mine and next(windows) == 2 else True
            grads = np.asarray(theta, np.float32)  # of ½‖θ‖²
            return local, Window(grads, ROWS, finite, np.zeros(3), np.zeros(1), np.zeros(3), np.zeros(0))

        def step(opt, grads, rows):
            return -1e-3 * grads, np.ones(1, np.float32)

        begin = lambda theta, collect_key, key: Local(None, None, None, None)  # noqa: E731
        return Player(layout(2), ("nothing",), None, None, begin, play, step, None)

    def do(self):
        left = [what for what in self.what if not os.path.exists(os.path.join(self.folder, what))]
        if not left:
            return True
        open(os.path.join(self.folder, left[0]), "w").close()
        if left[0] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if left[0] == "raise":
            raise ZeroDivisionError("division by zero")
        if left[0] == "hang":
            time.sleep(600)
        if left[0] == "keep the lock":
            ctypes.PyDLL(None).sleep(600)  # as C code that does not let go of Python's lock
        return left[0] != "nan"
