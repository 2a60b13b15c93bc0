"""Environments. They know no model: an :class:`Env` is pure and traceable, a :class:`HostEnv` stateful and in NumPy.

Names are imported when they are first used: :mod:`policygrad.envs.registry` can say what there is without JAX.
"""

from policygrad.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "policygrad.envs.atari": ("AtariEnv",),
        "policygrad.envs.checker": ("EnvError", "check_env"),
        "policygrad.envs.control": ("Acrobot", "CartPole", "MountainCar", "MountainCarContinuous", "Pendulum"),
        "policygrad.envs.core": ("Env", "Stream", "StreamState", "StreamStep", "autoreset", "split_keys", "to_bounds"),
        "policygrad.envs.functional": ("Brax", "Gymnax"),
        "policygrad.envs.gymnasium": ("GymnasiumEnv",),
        "policygrad.envs.lqr": ("LQR", "double_integrator", "exact_return", "optimal_gain"),
        "policygrad.envs.memory": ("Remember", "remember"),
        "policygrad.envs.probes": ("PROBES", "Probe"),
        "policygrad.envs.registry": ("describe", "env_id", "is_host", "make", "names"),
        "policygrad.envs.stateful": ("HostEnv", "HostError", "HostStep"),
        "policygrad.envs.tabular": (
            "TabularMDP", "TabularState", "chain", "cliff", "fork", "grid", "random_mdp", "random_walk",
            "short_corridor", "short_corridor_value",
        ),
    },
)  # fmt: skip
