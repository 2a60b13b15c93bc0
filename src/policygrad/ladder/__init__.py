"""Ψ: arrays in, arrays out. No network, no environment.

Names are imported when they are first used: :mod:`policygrad.ladder.names` alone needs no JAX.
"""

from policygrad.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "policygrad.ladder": ("baselines", "corrections", "names", "targets"),
        "policygrad.ladder.corrections": ("effective_sample_size",),
        "policygrad.ladder.psi": ("BASELINES", "CORRECTIONS", "CRITIC_TARGETS", "TARGETS", "Psi"),
        "policygrad.ladder.recursion": ("backward",),
    },
)
