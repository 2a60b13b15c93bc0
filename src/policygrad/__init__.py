"""policygrad: policy gradients, every rung of the ladder a switch.

    import policygrad as pg

    run = pg.train("CartPole-v1", "a2c", total_timesteps=500_000)
    print(pg.evaluate(run.policy, "gym:CartPole-v1").mean)

Names are imported when they are first used, so that a start is quick.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "policygrad.run.api": ("Run", "evaluate", "load", "offpolicy", "resume", "train"),
    "policygrad.run.ope": ("ope",),
    "policygrad.run.crediting": ("credit",),
    "policygrad.run.report": ("Report",),
    "policygrad": ("measure",),
    "policygrad.run.sweep": ("sweep",),
    "policygrad.run.cloning": ("clone",),
    "policygrad.run.policy": ("Policy",),
    "policygrad.run.recording": ("record",),
    "policygrad.storage.datasets": ("Dataset",),
    "policygrad.storage.formats": ("read_dataset", "write_dataset"),
    "policygrad.run.recipes": ("PRESETS", "Recipe", "RecipeError", "make_recipe"),
    "policygrad.run.program": ("RunState", "make_program"),
    "policygrad.run.train": ("Interrupted", "TrainingDiverged"),
    "policygrad.bandits.bandit": ("Bandit", "squarecb"),
    "policygrad.envs": ("Env", "autoreset", "check_env", "make"),
    "policygrad.envs.tabular": ("TabularMDP",),
    "policygrad.envs.memory": ("remember",),
    "policygrad.collect": ("Collector", "episode_collector", "window_collector"),
    "policygrad.ladder": ("Psi", "backward"),
    "policygrad.learn": (
        "Clipped", "Hyper", "KLPenalty", "Learner", "Ratio", "Score",
        "gradient_samples", "make_learner", "policy_gradient", "steps_from", "surrogate",
    ),
    "policygrad.learn.divergence": ("kl",),
    "policygrad.models": ("ActorCritic", "Categorical", "DiagGaussian", "TanhGaussian", "make_model", "unroll"),
    "policygrad.games": ("MatrixGame", "exploitability", "matrix_game", "nash", "read_game", "selfplay"),
    "policygrad.types": ("Finished", "Input", "Output", "MaskedObs", "Steps", "Trajectory"),
}  # fmt: skip
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'policygrad' has no attribute {name!r}")
    if _WHERE[name] == __name__:
        return importlib.import_module(f"{__name__}.{name}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
