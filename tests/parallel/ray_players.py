"""Workers for Ray without environments: every gradient is known, and faults happen on purpose. Importable by actors."""

import os
import signal
import time
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from policygrad.parallel.board import Layout
from policygrad.parallel.player import Local, Player, Window
from policygrad.parallel.servers import Slice
from policygrad.run.program import learner_of
from policygrad.run.recipes import make_recipe

N = 1000
ROWS = 5
RATE = 2.0**-20
G = np.arange(1, N + 1, dtype=np.float32) % 8 + 1
"""A whole number everywhere: sums of its multiples are exact."""


def layout(workers):
    return Layout(workers=workers, params=N, opt=0, target=0, normal=0, metrics=1, features=1)


@dataclass
class Counting:
    """The t-th window of a worker has the gradient t·G and the metric t, so that what was applied can be told from the
    metrics alone. In the third window of somebody ``what`` happens, once."""

    what: str = ""
    flag: str = ""
    always: bool = False

    def __call__(self, beat):
        windows = iter(range(1, 10**9))

        def play(theta, target, rows, ent_coef, local, clock=None):
            t = next(windows)
            finite = self.do() if self.what and t == 3 and (self.always or first(self.flag)) else True
            clock("acting")
            grads = np.float32(t % 16) * G
            metrics = np.array([t % 16], float)
            return local, Window(grads, ROWS, finite, np.zeros(3), metrics, np.zeros(3), np.zeros(0))

        return Player(layout(1), ("t",), None, None, lambda *_: Local(None, None, None, None), play, None, None)

    def do(self):
        if self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "raise":
            raise ZeroDivisionError("division by zero")
        if self.what == "hang":
            time.sleep(600)
        return self.what != "nan"

    def shard(self, size):
        recipe = make_recipe("a2c", "CartPole-v1", optimizer="sgd", learning_rate=RATE, max_grad_norm=None)
        return learner_of(recipe, lambda key: Slice(jnp.zeros(size)))


def first(flag):
    """Whether nobody was here before."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
