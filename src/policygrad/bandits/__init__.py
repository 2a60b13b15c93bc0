"""Contextual bandits: SquareCB and its peers, the regressions under them, and streams to run them on."""

from policygrad.lazy import attach

_HOME = {
    "policygrad.bandits.bandit": (
        "EXPLORERS",
        "Bandit",
        "BanditState",
        "Prediction",
        "epsilon_greedy",
        "linucb",
        "make_bandit",
        "softmax",
        "squarecb",
    ),
    "policygrad.bandits.data": ("Table", "load_table", "rewards_of"),
    "policygrad.bandits.explorers": ("gamma_schedule", "inverse_gap_weighting", "sample"),
    "policygrad.bandits.features": ("Encoder", "fit_encoder", "hash_features"),
    "policygrad.bandits.logged": ("LogError", "off_policy_value", "read_log", "replay"),
    "policygrad.bandits.oracles": ("ORACLES", "Oracle"),
    "policygrad.bandits.saved": ("load_bandit", "save_bandit"),
    "policygrad.bandits.stream": ("Log", "Played", "play", "progressive", "shuffled"),
}

__getattr__, __dir__, __all__ = attach(__name__, _HOME)
