"""A module that registers an environment when it is imported, as Gymnasium's ``module:Name-v0`` wants it."""

import gymnasium
from recorder import Recorder

gymnasium.register("Recorded-v0", entry_point=Recorder)


def make():
    return Recorder()
