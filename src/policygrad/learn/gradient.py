"""The identity:   ∇J(θ) = E_τ [ Σ_t ∇log π_θ(a_t | s_{0:t}) · Ψ_t ]

A trajectory becomes :class:`Steps` (numbers only), the ladder's Ψ makes weights of them, and the gradient of a
surrogate does the rest:

    steps = steps_from(model, trajectory, psi)
    grads = policy_gradient(model, trajectory, psi(steps))

Nothing here knows an environment, an optimiser or an algorithm.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from policygrad.ladder.psi import Psi
from policygrad.ladder.recursion import masked_sum, shift
from policygrad.learn.groups import gradient_groups
from policygrad.models.actor_critic import is_memoryless, unroll, values
from policygrad.types import COLUMNS, Steps, Trajectory


def steps_from(model: Any, trajectory: Trajectory, psi: Psi, *, critic: Any = None) -> Steps:
    """All that the ladder may see of a trajectory. Besides the environments' adapters the one place that knows
    truncation.

    Args:
        model: π, and V unless ``critic`` is given.
        trajectory: ``[T, *B]``.
        psi: gives γ and α, and says whether scores are needed.
        critic: another model whose V is used (a target copy V^{φ'}).

    The value of the true successor is V(s_{t+1}): the next row's value, at a cut that of ``cut_obs``, at an end zero.
    With α > 0 the reward is r − α·log π(a_t) (Haarnoja et al. 2017), and the values are soft values. No gradient flows
    through anything here.
    """
    output, carries = jax.lax.stop_gradient(unroll(model, trajectory))
    mask, terminated = trajectory.mask, trajectory.terminated & trajectory.mask
    rows = jnp.arange(len(mask)).reshape(-1, *[1] * (mask.ndim - 1))
    cut = mask & ((trajectory.truncated & ~terminated) | (rows == len(mask) - 1))
    if critic is None:
        value, critic = output.value, model
    else:
        critic_output, carries = jax.lax.stop_gradient(unroll(critic, trajectory))
        value = critic_output.value
    value = jnp.where(mask, value, 0)
    following = jnp.where(cut, cut_values(critic, trajectory, cut, carries), shift(value))
    reward = trajectory.reward
    normalizer = getattr(model, "normalizer", None)
    if normalizer is not None:
        reward = normalizer.reward(reward)
    reward = reward - psi.alpha * output.log_prob
    steps = Steps(
        reward=jnp.where(mask, reward, 0),
        discount=jnp.where(mask & ~terminated, psi.gamma, jnp.zeros((), value.dtype)),
        last=terminated | cut | ~mask,
        value=value,
        next_value=jnp.where(mask & ~terminated, following, 0),
        log_rho=jnp.where(mask, output.log_prob - trajectory.log_mu, 0),
        score_sq=None,
        score_cov=None,
        time=trajectory.time,
        mask=mask,
    )
    return with_scores(model, trajectory, psi, steps)


def cut_values(
    critic: Any, trajectory: Trajectory, cut: Bool[Array, "T *B"], carries: PyTree[Array]
) -> Float[Array, "T *B"]:
    """V(successor) at the cut rows, from ``cut_obs`` alone: K evaluations a column instead of T."""
    slot = jnp.cumsum(cut, axis=0) - cut
    n_slots = len(jax.tree.leaves(trajectory.cut_obs)[0])
    rows = jnp.stack(
        [jnp.argmax(cut & (slot == k), axis=0) for k in range(n_slots)]
    )  # [K, *B]: the row of each slot (0 where unused)
    time = jnp.take_along_axis(trajectory.time, rows, axis=0) + 1

    def at_rows(x: Array) -> Array:
        return jnp.take_along_axis(x, rows.reshape(*rows.shape, *[1] * (x.ndim - rows.ndim)), axis=0)

    cut_value = jax.lax.stop_gradient(values(critic, trajectory.cut_obs, time, jax.tree.map(at_rows, carries)))
    return jnp.take_along_axis(cut_value, jnp.minimum(slot, n_slots - 1), axis=0)


def with_scores(model: Any, trajectory: Trajectory, psi: Psi, steps: Steps) -> Steps:
    """``score_sq`` and ``score_cov`` filled in where ``psi`` needs them: X = Σ_t s_t, Y = Σ_t Ψ⁰_t s_t, s_t = c_t γ^t
    ∇log π_t."""
    if not psi.needs & {"scores", "row_scores"}:
        return steps
    factor, target = psi.score_factor(steps), psi.target_of(steps)
    if "scores" in psi.needs:
        x, y = gradient_groups(model, trajectory, jnp.stack([factor, factor * target]), factor.shape[1])
        return steps._replace(score_sq=jnp.sum(x * x, axis=-1), score_cov=jnp.sum(x * y, axis=-1))
    if not is_memoryless(model):
        raise ValueError("baseline='optimal_per_time' needs a memoryless policy: choose 'optimal'")

    y = gradient_samples(model, trajectory, factor * target)

    def column(args: tuple[Trajectory, Array, Any]) -> tuple[Array, Array]:
        trajectory, factor, y = args
        rows = trajectory._replace(cut_obs=None, carry=None)
        rows = jax.tree.map(lambda leaf: leaf[None], rows)  # each row is a column of its own
        s = gradient_samples(model, rows, factor[None])
        return dot(s, s), jax.vmap(dot_one, in_axes=(0, None))(s, y)

    columns = jax.tree.map(
        lambda axis, leaf: jax.tree.map(lambda x: jnp.moveaxis(x, axis, 0), leaf), COLUMNS, trajectory
    )
    sq, cov = jax.lax.map(column, (columns, factor.T, y))
    return steps._replace(score_sq=sq.T, score_cov=cov.T)


def dot_one(a: PyTree[Array], b: PyTree[Array]) -> Float[Array, ""]:
    """a·b over all leaves."""
    return sum(jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)), start=jnp.zeros(()))


def dot(a: PyTree[Array], b: PyTree[Array]) -> Float[Array, "B"]:
    """a_i·b_i over all leaves ``[B, ...]``."""
    return jax.vmap(dot_one)(a, b)


class Score(eqx.Module):
    """log π(a_t)·Ψ_t: its gradient is the identity itself."""

    def __call__(
        self, log_prob: Float[Array, "..."], log_mu: Float[Array, "..."], weights: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        return log_prob * weights


SCORE = Score()


class Ratio(eqx.Module):
    """π(a_t)/μ(a_t)·Ψ_t: the conservative-policy-iteration objective. Kakade & Langford (2002); Schulman et al.
    (2017), eq. 6."""

    def __call__(
        self, log_prob: Float[Array, "..."], log_mu: Float[Array, "..."], weights: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        return jnp.exp(log_prob - log_mu) * weights


class Clipped(eqx.Module):
    """min(ρ_t Ψ_t, clip(ρ_t, 1 − ε, 1 + ε) Ψ_t), ρ_t = π/μ. Schulman et al. (2017), "Proximal policy optimization
    algorithms", eq. 7."""

    clip_range: Any = 0.2

    def __call__(
        self, log_prob: Float[Array, "..."], log_mu: Float[Array, "..."], weights: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        rho = jnp.exp(log_prob - log_mu)
        return jnp.minimum(rho * weights, jnp.clip(rho, 1 - self.clip_range, 1 + self.clip_range) * weights)


class KLPenalty(eqx.Module):
    """ρ_t Ψ_t − β·(ρ_t − 1 − log ρ_t): the bracket is an unbiased, never negative estimate of D(μ‖π) with gradient
    zero at π = μ.

    Schulman et al. (2017), eq. 8; Schulman (2020), "Approximating KL divergence".
    """

    beta: Any = 1.0

    def __call__(
        self, log_prob: Float[Array, "..."], log_mu: Float[Array, "..."], weights: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        log_rho = log_prob - log_mu
        return jnp.exp(log_rho) * weights - self.beta * (jnp.expm1(log_rho) - log_rho)


def surrogate(
    log_prob: Float[Array, "T *B"],
    log_mu: Float[Array, "T *B"],
    weights: Float[Array, "T *B"],
    mask: Bool[Array, "T *B"],
    *,
    kind: Any = SCORE,
    per: str = "trajectory",
) -> Float[Array, ""]:
    """A scalar whose gradient is the estimate of ∇J (``per="trajectory"``: the mean over trajectories of the sum over
    time, as in the identity).

    ``per="step"`` divides by the number of rows instead, the field's habit: the same direction for one batch, another
    scale, and with episodes of unequal length another weighting between batches. All kinds have equal gradients at π =
    μ.
    """
    log_prob, log_mu, weights = (
        jnp.where(mask, x, 0) for x in (log_prob, log_mu, weights)
    )  # before exp, or 0·inf is in the gradient
    return average(kind(log_prob, log_mu, weights), mask, per)


def average(rows: Float[Array, "T *B"], mask: Bool[Array, "T *B"], per: str) -> Float[Array, ""]:
    """(1/N) Σ_i Σ_t of the valid rows, N being the number of trajectories (``per="trajectory"``) or of rows
    (``per="step"``)."""
    count = jnp.sum(mask) if per == "step" else jnp.sum(jnp.any(mask, axis=0))
    return masked_sum(rows, mask) / jnp.maximum(count, 1)


def policy_gradient(
    model: Any, trajectory: Trajectory, weights: Float[Array, "T *B"], *, kind: Any = SCORE, per: str = "trajectory"
) -> PyTree:
    """ĝ = (1/N) Σ_i Σ_t ∇log π(a_{i,t})·Ψ_{i,t}: a tree like the model's inexact arrays, pointing uphill."""
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def objective(params: PyTree) -> Array:
        output, _ = unroll(eqx.combine(params, static), trajectory)
        return surrogate(output.log_prob, trajectory.log_mu, weights, trajectory.mask, kind=kind, per=per)

    return jax.grad(objective)(params)


def gradient_samples(
    model: Any, trajectory: Trajectory, weights: Float[Array, "T B"], *, chunk: int | None = None
) -> PyTree:
    """One gradient per trajectory, ĝ_i = Σ_t ∇log π(a_{i,t})·Ψ_{i,t}: leaves ``[B, ...]``; their mean is
    ``policy_gradient``.

    ``chunk`` trajectories at a time where memory matters.
    """
    one = lambda args: policy_gradient(model, args[0], args[1])  # noqa: E731
    if chunk is None:
        return jax.vmap(one, in_axes=((COLUMNS, 1),))((trajectory, weights))
    columns = jax.tree.map(
        lambda axis, leaf: jax.tree.map(lambda x: jnp.moveaxis(x, axis, 0), leaf), (COLUMNS, 1), (trajectory, weights)
    )
    return jax.lax.map(one, columns, batch_size=chunk)
