"""Bias and variance of the gradient over γ and λ, on one frozen policy. The objective is the return that is reported,

    J = E[Σ_t r_t]  up to the episode's end or its time limit,        g = ∇J,

and every cell is the generalised advantage estimator of Schulman et al. (2016) with its own γ and λ:

    ĝ_N = (1/N) Σ_i Σ_t ∇log π(a_t)·(G_t^{γ,λ} − V^γ(s_t)),    bias² = ‖E ĝ_N − g‖²,    variance = tr Cov(ĝ_N).

A critic belongs to one γ. Here each γ gets its own V^γ, fitted on trajectories of its own; all cells then see the same
trajectories, so that differences between cells are not noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from policygrad.ladder.psi import Psi
from policygrad.learn.gradient import steps_from
from policygrad.measure import statistics as st
from policygrad.measure.gather import Collect, Gathered, gather
from policygrad.measure.microscope import explained, scaled
from policygrad.measure.rungs import Rung, make_rung
from policygrad.measure.statistics import Estimate, Linear
from policygrad.models.actor_critic import unroll
from policygrad.types import Trajectory


class Cell(NamedTuple):
    """One γ and one λ. Squared norms are in squared units of the gradient."""

    gamma: float
    lam: float
    bias: Estimate
    """‖E ĝ_N − g‖², unbiased and never clipped."""
    variance: Estimate
    """tr Cov(ĝ_N)."""
    norm: Estimate
    """‖E ĝ_N‖²."""
    cosine: Estimate
    """Between E ĝ_N and g: what is left of the bias once the length is forgiven."""
    error: Estimate
    """min_c E‖c·ĝ_N − g‖²/‖g‖² = 1 − ⟨E ĝ_N, g⟩²/(‖g‖²·E‖ĝ_N‖²): the error at the best step size. 0: exact, 1: nothing
    is known about g. Bias and variance both enter."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        numbers = {name: x._asdict() for name, x in self._asdict().items() if isinstance(x, Estimate)}
        return {"gamma": self.gamma, "gae_lambda": self.lam, **numbers}


@dataclass(frozen=True)
class Surface:
    """All cells of one policy."""

    cells: tuple[tuple[Cell, ...], ...]
    """``[γ][λ]``."""
    batch: int
    """N, the trajectories of one estimate."""
    trajectories: int
    """So many were played."""
    window: int | None
    """Streams were cut every so many steps, as in training; None: whole episodes."""
    true_norm: Estimate
    """‖g‖²."""
    explained: tuple[Estimate, ...]
    """``[γ]``: the explained variance of V^γ on trajectories that it was not fitted on."""
    ret: Estimate
    """J."""
    length: float
    """Mean steps of an episode."""

    def relative(self, name: str) -> Float[np.ndarray, "gamma lambda"]:
        """``bias`` or ``variance`` in units of ‖g‖²; NaN where that cannot be told from zero."""
        known = self.true_norm.told_from_zero and self.true_norm.value > 0
        return self.values(name) / (self.true_norm.value if known else np.nan)

    def values(self, name: str) -> Float[np.ndarray, "gamma lambda"]:
        """The estimates of one kind."""
        return np.array([[getattr(cell, name).value for cell in row] for row in self.cells])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "batch": self.batch,
            "trajectories": self.trajectories,
            "window": self.window,
            "true_norm": self.true_norm._asdict(),
            "return": self.ret._asdict(),
            "length": self.length,
            "explained_variance": [x._asdict() for x in self.explained],
            "cells": [cell.to_dict() for row in self.cells for cell in row],
        }


def measure_surface(
    collect: Collect,
    model: Any,
    gammas: Sequence[float],
    lams: Sequence[float],
    *,
    trajectories: int = 2048,
    batch: int = 16,
    window: int | None = None,
    seed: int = 0,
    threads: int = 1,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> Surface:
    """Measure every (γ, λ) on one frozen policy.

    The true gradient is reward-to-go with γ = 1, minus V^1(s): unbiased for J. Biases are taken on differences to it,
    trajectory by trajectory.

    Args:
        collect: plays ``batch`` whole episodes of the policy.
        model: π with a critic, whose last layer is fitted to each γ (:func:`fit_critics`).
        trajectories: so many are played for the cells, and as many before that for the critics.
        window: cut streams every so many steps, as the collector of the training did.
        threads: so many batches are worked on at once, where ``collect`` allows it.
        tell: ``(done, of)`` while playing.

    Raises:
        ValueError: too few trajectories, or nothing to measure.
    """
    rounds = len(gammas) + 2
    sample: dict[str, Any] = {"trajectories": trajectories, "batch": batch}

    def progress(k: int) -> Callable[[int], None]:
        return lambda n: tell(k * trajectories + n, rounds * trajectories)

    *critics, undiscounted = fit_critics(collect, model, (*gammas, 1.0), **sample, seed=seed + 1, tell=progress(0))
    look = partial(gather, collect, model, threads=threads, seed=seed, **sample)
    reference = {"g": make_rung("reinforce-value", 1.0, "undiscounted")}
    truth = look(reference, gamma=1.0, critic=undiscounted, tell=progress(1))
    rows, known = [], []
    for k, (gamma, critic) in enumerate(zip(gammas, critics)):
        number: Any = jnp.asarray(gamma)  # an array, so that one program serves every γ
        rungs = {str(lam): cell_rung(number, lam, window) for lam in lams}
        found = look(rungs, gamma=number, critic=critic, tell=progress(k + 2))
        rows.append(tuple(cell_of(gamma, lam, found, truth) for lam in lams))
        known.append(explained(found.episodes.sums))
    ret = truth.episodes.ret
    return Surface(
        cells=tuple(rows),
        batch=batch,
        trajectories=truth.trajectories,
        window=window,
        true_norm=st.squared_norm(st.gram(truth.vectors["g"])),
        explained=tuple(known),
        ret=st.normal(ret.mean(), st.standard_error(ret)),
        length=float(truth.episodes.length.mean()),
    )


def cell_rung(gamma: Any, lam: float, window: int | None) -> Rung:
    """GAE(γ, λ)."""
    psi = Psi("lambda_return", "value", gamma=gamma, lam=jnp.asarray(lam))
    return Rung(str(lam), psi, unbiased=False, window=window)


def cell_of(gamma: float, lam: float, found: Gathered, truth: Gathered) -> Cell:
    """What the vectors of one cell say, beside those of the true gradient from the same trajectories."""
    x, g, n = found.vectors[str(lam)], truth.vectors["g"], found.batch / found.size
    k = st.gram(x)
    return Cell(
        gamma,
        lam,
        bias=st.squared_norm(st.gram(x - g)),
        variance=scaled(st.total_variance(k), 1 / n),
        norm=st.squared_norm(k),
        cosine=st.cosine_of_means(x, g),
        error=error_at_best_scale(k, st.gram(x, g), st.gram(g), n),
    )


def error_at_best_scale(
    k: Float[np.ndarray, "n n"], cross: Float[np.ndarray, "n n"], true: Float[np.ndarray, "n n"], batch: float
) -> Estimate:
    """1 − ⟨E x, g⟩²/(‖g‖²·E‖x̄_N‖²) for means of N = ``batch`` vectors, with the delta method's error; NaN where a
    length cannot be told from zero."""
    inner, length = (Linear(st.unbiased_norm(m), st.norm_influence(m)) for m in (cross, true))
    noise = Linear(float(np.mean(np.diag(k))) - st.unbiased_norm(k), st.variance_influence(k))
    second = Linear(st.unbiased_norm(k) + noise.value / batch, st.norm_influence(k) + noise.influence / batch)
    if not st.squared_norm(true).told_from_zero or min(length.value, second.value) <= 0:
        return st.normal(np.nan, np.nan)
    known = inner.value**2 / (length.value * second.value)
    influence = 2 * inner.value * inner.influence / (length.value * second.value) - known * (
        length.influence / length.value + second.influence / second.value
    )
    return st.normal(1 - known, st.standard_error(influence))


# A critic for every γ


def fit_critics(
    collect: Collect,
    model: Any,
    gammas: Sequence[float],
    *,
    trajectories: int,
    batch: int,
    seed: int,
    tell: Callable[[int], None] = lambda n: None,
) -> list[Any]:
    """For each γ the model with the V^γ that is nearest to the returns of its policy:

        w^γ = argmin_w Σ_t (φ(s_t)·w − Σ_{t'≥t} γ^{t'−t} r_{t'})²,        V^γ(s) = φ(s)·w^γ.

    φ is what the last layer of the model's own critic is given, so V is linear in w, and least squares has one answer
    and no settings. Returns end where episodes do, at their time limit too.
    """
    size = ravel_pytree(model.critic.last)[0].size
    squares, moments = np.zeros((size, size)), np.zeros((size, len(gammas)))
    for i in range(trajectories // batch):
        trajectory = collect(jax.random.fold_in(jax.random.key(seed), i))
        phi, returns = (np.asarray(x, np.float64) for x in features_and_returns(model, trajectory, jnp.array(gammas)))
        squares, moments = squares + phi @ phi.T, moments + phi @ returns.T
        tell((i + 1) * batch)
    weights = np.linalg.pinv(squares, rcond=1e-10, hermitian=True) @ moments
    return [with_last(model, jnp.asarray(w, jnp.float32)) for w in weights.T]


@eqx.filter_jit
def features_and_returns(
    model: Any, trajectory: Trajectory, gammas: Float[Array, "gamma"]
) -> tuple[Float[Array, "k rows"], Float[Array, "gamma rows"]]:
    """φ and the returns-to-go of all rows; zero where a row carries nothing."""
    trajectory = jax.tree.map(jnp.asarray, trajectory)
    last, mask = ravel_pytree(model.critic.last)[0], trajectory.mask
    _, along = jax.linearize(lambda w: unroll(with_last(model, w), trajectory)[0].value, last)
    phi = jax.vmap(along)(jnp.eye(last.size))

    def returns(gamma: Array) -> Array:
        psi = Psi("reward_to_go", gamma=gamma)
        return psi.target_of(steps_from(model, trajectory, psi))

    rows = lambda x: jnp.where(mask, x, 0).reshape(len(x), -1)  # noqa: E731
    return rows(phi), rows(jax.vmap(returns)(gammas))


def with_last(model: Any, weights: Float[Array, "k"]) -> Any:
    """The model with these numbers in the last layer of its critic."""
    last = ravel_pytree(model.critic.last)[1](weights)
    return eqx.tree_at(lambda m: m.critic.last, model, last)
