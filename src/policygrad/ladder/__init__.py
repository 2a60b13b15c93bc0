"""Ψ: arrays in, arrays out. No network, no environment."""

from policygrad.ladder import baselines, corrections, targets
from policygrad.ladder.corrections import effective_sample_size
from policygrad.ladder.psi import BASELINES, CORRECTIONS, CRITIC_TARGETS, TARGETS, Psi
from policygrad.ladder.recursion import backward

__all__ = [
    "BASELINES",
    "CORRECTIONS",
    "CRITIC_TARGETS",
    "TARGETS",
    "Psi",
    "backward",
    "baselines",
    "corrections",
    "effective_sample_size",
    "targets",
]
