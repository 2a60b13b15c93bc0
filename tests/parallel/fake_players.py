"""Workers without XLA: a quadratic, whose gradient is known, and faults on purpose. Importable by worker processes."""

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
    """A player whose worker ``worker`` does ``what`` in its third window, in its first life only."""

    what: str = ""
    worker: int = -1
    flag: str = ""
    """A file that says that it has happened."""
    always: bool = False

    def __call__(self, beat):
        mine = current_process().name.endswith(f"-{self.worker}")
        windows = iter(range(10**9))

        def play(theta, target, rows, ent_coef, local, clock=None):
            t = next(windows)
            finite = True
            if mine and t == 2 and (self.always or not os.path.exists(self.flag)):
                if self.flag:
                    with open(self.flag, "w") as file:
                        file.write("done")
                finite = self.do()
            grads = np.asarray(theta, np.float32)  # of ½‖θ‖²
            return local, Window(grads, ROWS, finite, np.zeros(3), np.zeros(1), np.zeros(3), np.zeros(0))

        def step(opt, grads, rows):
            return -1e-3 * grads, np.ones(1, np.float32)

        begin = lambda theta, collect_key, key: Local(None, None, None, None)  # noqa: E731
        return Player(layout(2), ("nothing",), None, None, begin, play, step, None)

    def do(self):
        if self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "raise":
            raise ZeroDivisionError("division by zero")
        if self.what == "hang":
            time.sleep(600)
        return self.what != "nan"
