"""Environments. They know no model: an :class:`Env` is pure and traceable, a :class:`HostEnv` stateful and in NumPy."""

from policygrad.envs.checker import EnvError, check_env
from policygrad.envs.control import Acrobot, CartPole, MountainCar, MountainCarContinuous, Pendulum
from policygrad.envs.core import Env, Stream, StreamState, StreamStep, autoreset, split_keys, to_bounds
from policygrad.envs.host import GymnasiumEnv, HostEnv, HostStep
from policygrad.envs.lqr import LQR, double_integrator, exact_return, optimal_gain
from policygrad.envs.memory import Remember, remember
from policygrad.envs.probes import PROBES, Probe
from policygrad.envs.registry import describe, env_id, is_host, make, names, slug
from policygrad.envs.tabular import (
    TabularMDP,
    TabularState,
    chain,
    cliff,
    grid,
    random_mdp,
    short_corridor,
    short_corridor_value,
)

__all__ = [
    "LQR",
    "PROBES",
    "Acrobot",
    "CartPole",
    "Env",
    "EnvError",
    "GymnasiumEnv",
    "HostEnv",
    "HostStep",
    "MountainCar",
    "MountainCarContinuous",
    "Pendulum",
    "Probe",
    "Remember",
    "Stream",
    "StreamState",
    "StreamStep",
    "TabularMDP",
    "TabularState",
    "autoreset",
    "chain",
    "check_env",
    "cliff",
    "describe",
    "double_integrator",
    "env_id",
    "exact_return",
    "grid",
    "is_host",
    "make",
    "names",
    "optimal_gain",
    "random_mdp",
    "remember",
    "short_corridor",
    "short_corridor_value",
    "slug",
    "split_keys",
    "to_bounds",
]
