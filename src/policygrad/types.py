"""The index convention of the whole library, once.

Leaves are time-major, ``[T, *B]``. **Row t belongs to the action a_t**: ``reward[t]`` is what a_t was paid,
``terminated[t]`` says that the state *after* a_t is an end, ``next_value[t]`` is V(s_{t+1}), the value of the true
successor.

A row with ``mask`` False carries nothing (padding after an episode, the reset row of some vector environments): its
weight is zero and it enters no reduction.
"""

from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int, PyTree


class MaskedObs(NamedTuple):
    """An observation together with the actions that are valid there.

    An environment whose actions can be invalid shows this in place of its observation. Its ``observation_space`` stays
    that of ``obs``. The encoder looks at ``obs`` alone; the actor gives invalid actions probability zero.
    """

    obs: PyTree[Array]
    mask: Any
    """Bool ``[k]``, True where the action is valid: an entry for each action of a Discrete, those of all parts in a row
    for a MultiDiscrete."""


class Input(NamedTuple):
    """What a policy sees at one step."""

    obs: PyTree[Array]
    """The observation, without batch axes (modules are unbatched; ``vmap`` batches)."""
    time: Int[Array, "..."]
    """Steps since the episode began. A time-to-go policy uses T − time."""
    start: Bool[Array, "..."]
    """True at the first step of an episode: a recurrent carry is reset *before* this row."""


class Output(NamedTuple):
    """What a model answers."""

    distribution: Any
    """π(· | s_{0:t}), an :class:`policygrad.models.distributions.AbstractDistribution`."""
    log_prob: Any
    """log π(a_t | s_{0:t}) in nats; None until an action is known."""
    value: Float[Array, "..."]
    """V(s_t), in units of discounted return. Zero for a model without a critic."""


class Trajectory(NamedTuple):
    """A window of T steps in each of B streams, or B whole episodes padded to T."""

    obs: PyTree[Array]
    """s_t, ``[T, *B, ...]``."""
    action: PyTree[Array]
    """a_t as it was sampled (before any clipping to the environment's bounds), ``[T, *B, ...]``."""
    reward: Float[Array, "T *B"]
    """r_t, paid for a_t, on the environment's own scale."""
    terminated: Bool[Array, "T *B"]
    """The state after a_t is an end: its value is zero."""
    truncated: Bool[Array, "T *B"]
    """The stream was cut after a_t though the state is no end: its value is V(successor)."""
    log_mu: Float[Array, "T *B"]
    """log μ(a_t | ·) under the policy that acted, in nats."""
    time: Int[Array, "T *B"]
    """Steps since the episode began."""
    start: Bool[Array, "T *B"]
    """First row of an episode."""
    mask: Bool[Array, "T *B"]
    """False: the row carries nothing."""
    carry: PyTree[Array]
    """The recurrent carry before row 0, ``[*B, ...]``; None for memoryless models."""
    cut_obs: PyTree[Array]
    """``[K, *B, ...]``: the true successors at the cuts of a column (truncations that are no end, and the window's
    last row), in order. The slot of row t is the number of earlier cuts in its column."""


COLUMNS: Any = Trajectory(*[1] * 9, carry=0, cut_obs=1)  # type: ignore[arg-type, misc]
"""Where each leaf of a ``[T, B]`` trajectory keeps its batch axis."""


class Steps(NamedTuple):
    """All that the ladder may see: numbers, no network and no environment."""

    reward: Float[Array, "T *B"]
    discount: Float[Array, "T *B"]
    """γ·(1 − terminated); zero on masked rows."""
    last: Bool[Array, "T *B"]
    """True where the stream is cut after row t (end, truncation, window's end, masked row)."""
    value: Float[Array, "T *B"]
    """V(s_t), a constant: no gradient flows through it."""
    next_value: Float[Array, "T *B"]
    """V(s_{t+1}) of the true successor; zero at ends."""
    log_rho: Float[Array, "T *B"]
    """log π(a_t|·) − log μ(a_t|·), zero on masked rows."""
    score_sq: Any
    """‖X‖², X = Σ_t s_t with s_t = c_t·γ^t·∇log π_t: ``[*B]``; for the per-time optimal baseline ‖s_t‖²: ``[T, *B]``.
    None unless asked for."""
    score_cov: Any
    """X·Y with Y = Σ_t Ψ⁰_t s_t and Ψ⁰ the target alone: ``[*B]``; for the per-time optimal baseline s_t·Y: ``[T,
    *B]``."""
    time: Int[Array, "T *B"]
    mask: Bool[Array, "T *B"]


class Finished(NamedTuple):
    """Statistics of the episodes that ended inside a window."""

    done: Bool[Array, "T *B"]
    """True on the last row of an episode (end or truncation)."""
    ret: Float[Array, "T *B"]
    """Running undiscounted return of the episode, on the environment's own scale; read it where ``done``."""
    length: Int[Array, "T *B"]
    """Running length in steps; read it where ``done``."""
