"""The linear-quadratic regulator: continuous control whose values, gradients and best policy are known in closed form.

    s' = A s + B u + w,   w ~ N(0, noise_cov),   s_0 ~ N(initial_mean, initial_cov),   r = −(sᵀQ s + uᵀR u)

:func:`optimal_gain` solves for the best policy (Riccati), :func:`exact_return` values any linear-Gaussian one
(Lyapunov). The latter is written in JAX, so ``jax.grad`` of it is the exact policy gradient.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from policygrad.envs.core import Env

FILLED_IN: Any = None
"""The default of an array that the constructor fills in."""


class LQRState(NamedTuple):
    """The point in state space, and the steps taken since the episode began."""

    point: Float[Array, "n"]
    time: Int[Array, ""]


@dataclass(frozen=True, eq=False)
class LQR(Env):
    """A linear-quadratic regulator. The observation ``[n]`` is the state, the action ``[m]`` is unbounded.

    Args:
        A: ``[n, n]``.
        B: ``[n, m]``.
        Q: ``[n, n]``, the price of being away from zero, symmetric.
        R: ``[m, m]``, the price of acting, symmetric.
        noise_cov: ``[n, n]``, covariance of w; zero by default.
        initial_mean: ``[n]``; zero by default.
        initial_cov: ``[n, n]``; the identity by default.
        horizon: the episode *ends* (is terminated) after so many steps; None: it goes on for ever, to be discounted.
        time_limit: the episode is *truncated* after so many steps.

    Arrays rest as NumPy float64 and take JAX's default dtype inside a step.
    """

    A: np.ndarray
    B: np.ndarray
    Q: np.ndarray
    R: np.ndarray
    noise_cov: np.ndarray = FILLED_IN
    initial_mean: np.ndarray = FILLED_IN
    initial_cov: np.ndarray = FILLED_IN
    horizon: int | None = None
    time_limit: int | None = None
    observation_space: spaces.Space = field(init=False)
    action_space: spaces.Space = field(init=False)

    def __post_init__(self) -> None:
        if np.ndim(self.B) != 2:
            raise ValueError(f"LQR: B has shape {np.shape(self.B)}; it must be [n, m], also for one action: [n, 1].")
        n, m = np.shape(self.B)
        square = {"A": n, "Q": n, "R": m, "noise_cov": n, "initial_cov": n}
        shapes = {name: (size, size) for name, size in square.items()} | {"B": (n, m), "initial_mean": (n,)}
        defaults = {"noise_cov": np.zeros((n, n)), "initial_mean": np.zeros(n), "initial_cov": np.eye(n)}
        for name, shape in shapes.items():
            given = getattr(self, name)
            array = np.array(defaults[name] if given is None else given, np.float64)
            validate(name, array, shape)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        for name in ("horizon", "time_limit"):
            if (limit := getattr(self, name)) is not None and limit < 1:
                raise ValueError(f"LQR: {name} is {limit}; give a positive number of steps, or None.")
        object.__setattr__(self, "observation_space", spaces.Box(-np.inf, np.inf, (n,)))
        object.__setattr__(self, "action_space", spaces.Box(-np.inf, np.inf, (m,)))

    def draw(self, key: Array, shape: tuple[int, ...]) -> Float[Array, "... n"]:
        return jax.random.normal(key, (*shape, len(self.A)))

    def reset(self, noise: Float[Array, "n"]) -> tuple[LQRState, Float[Array, "n"]]:
        point = jnp.asarray(self.initial_mean) + jnp.asarray(square_root(self.initial_cov)) @ noise
        return LQRState(point, jnp.zeros((), jnp.int32)), point

    def step(
        self, noise: Float[Array, "n"], state: LQRState, action: Float[Array, "m"]
    ) -> tuple[LQRState, Float[Array, "n"], Float[Array, ""], Bool[Array, ""]]:
        A, B, Q, R = (jnp.asarray(x) for x in (self.A, self.B, self.Q, self.R))
        cost = state.point @ Q @ state.point + action @ R @ action
        point = A @ state.point + B @ action + jnp.asarray(square_root(self.noise_cov)) @ noise
        time = state.time + 1
        over = jnp.zeros((), bool) if self.horizon is None else time >= self.horizon
        return LQRState(point, time), point, -cost, over


def validate(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise a ValueError that names the array, what is wrong with it, and the fix."""
    if array.shape != shape:
        raise ValueError(
            f"LQR: {name} has shape {array.shape}; A is [n, n] and B [n, m], so it must have shape {shape}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"LQR: {name} holds a number that is not finite.")
    if name in ("Q", "R", "noise_cov", "initial_cov") and not np.allclose(array, array.T):
        raise ValueError(f"LQR: {name} is not symmetric. Give ({name} + {name}.T) / 2.")
    if name.endswith("_cov") and np.linalg.eigvalsh(array).min() < -1e-9 * max(1.0, np.abs(array).max()):
        raise ValueError(f"LQR: {name} has a negative eigenvalue, so it is no covariance.")


def optimal_gain(env: LQR, gamma: float = 1.0, *, iterations: int = 10_000) -> np.ndarray:
    """The best policy u = −K s, from the Riccati recursion run backwards from P = 0:

        K = γ (R + γ BᵀP B)⁻¹ BᵀP A          P ← Q + KᵀR K + γ (A − BK)ᵀ P (A − BK)

    Bertsekas (2017), "Dynamic Programming and Optimal Control", section 3.1.

    Returns:
        ``[T, m, n]``, the gain at each step, if the env has a horizon T; otherwise the stationary ``[m, n]``.
    """
    P = np.zeros_like(env.Q)
    gains: list[np.ndarray] = []
    for _ in range(env.horizon or iterations):
        K = gamma * np.linalg.solve(env.R + gamma * env.B.T @ P @ env.B, env.B.T @ P @ env.A)
        closed = env.A - env.B @ K
        gains.append(K)
        P, before = env.Q + K.T @ env.R @ K + gamma * closed.T @ P @ closed, P
        if env.horizon is None and np.allclose(P, before, rtol=1e-13, atol=1e-13):
            return K
    if env.horizon is None:
        raise ValueError(
            f"LQR: the Riccati recursion did not settle in {iterations} steps. Lower gamma, or set a horizon."
        )
    return np.stack(gains[::-1])


def exact_return(env: LQR, gain: ArrayLike, action_cov: ArrayLike, gamma: float = 1.0) -> Float[Array, ""]:
    """The exact expected discounted return of u ~ N(−K s, Σ), differentiable in K and Σ.

    The value is V_t(s) = −(sᵀP_t s + c_t), where the Lyapunov recursion runs backwards from P_T = 0, c_T = 0:

        P_t = Q + KᵀR K + γ (A − BK)ᵀ P_{t+1} (A − BK)
        c_t = tr(RΣ) + γ (tr(P_{t+1} (noise_cov + BΣBᵀ)) + c_{t+1})

    Without a horizon P and c are its fixed point (a linear solve; needs γ < 1). It exists only where √γ·(A − BK) is
    stable; elsewhere the answer is −∞. Then Q must be positive definite.

    Args:
        gain: ``[m, n]``, or ``[T, m, n]`` for one gain per step of the horizon.
        action_cov: ``[m, m]``.
    """
    P, c = finite_cost(env, gain, action_cov, gamma) if env.horizon else stationary_cost(env, gain, action_cov, gamma)
    mean, cov = jnp.asarray(env.initial_mean), jnp.asarray(env.initial_cov)
    return -(mean @ P @ mean + jnp.trace(P @ cov) + c)


def finite_cost(env: LQR, gain: Any, action_cov: Any, gamma: float) -> tuple[Float[Array, "n n"], Float[Array, ""]]:
    """``(P_0, c_0)`` of :func:`exact_return` with a horizon."""
    A, B, Q, R, W = (jnp.asarray(x) for x in (env.A, env.B, env.Q, env.R, env.noise_cov))
    spread = W + B @ action_cov @ B.T

    def backward(carry, K):
        P, c = carry
        closed = A - B @ K
        now = Q + K.T @ R @ K + gamma * closed.T @ P @ closed
        return (now, jnp.trace(R @ action_cov) + gamma * (jnp.trace(P @ spread) + c)), None

    gains = jnp.broadcast_to(gain, (env.horizon, *R.shape[:1], *A.shape[:1]))
    (P, c), _ = jax.lax.scan(backward, (jnp.zeros_like(Q), jnp.zeros(())), gains, reverse=True)
    return P, c


def stationary_cost(env: LQR, gain: Any, action_cov: Any, gamma: float) -> tuple[Float[Array, "n n"], Float[Array, ""]]:
    """``(P, c)`` of :func:`exact_return` without a horizon: vec P = (I − γ Mᵀ⊗Mᵀ)⁻¹ vec(Q + KᵀRK), M = A − BK."""
    if gamma >= 1:
        raise ValueError(f"LQR: gamma is {gamma}; without a horizon it must be below 1. Lower it, or set a horizon.")
    A, B, Q, R, W = (jnp.asarray(x) for x in (env.A, env.B, env.Q, env.R, env.noise_cov))
    closed, price = A - B @ gain, Q + gain.T @ R @ gain
    P = jnp.linalg.solve(jnp.eye(Q.size) - gamma * jnp.kron(closed.T, closed.T), price.reshape(-1)).reshape(Q.shape)
    stable = jnp.linalg.eigvalsh(jax.lax.stop_gradient((P + P.T) / 2)).min() > 0
    c = (jnp.trace(R @ action_cov) + gamma * jnp.trace(P @ (W + B @ action_cov @ B.T))) / (1 - gamma)
    return P, jnp.where(stable, c, jnp.inf)


def square_root(cov: Any) -> np.ndarray:
    """The symmetric S with S Sᵀ = cov; ``cov`` may be singular."""
    values, vectors = np.linalg.eigh(cov)
    return vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T


def double_integrator(*, horizon: int | None = 20, time_limit: int | None = None) -> LQR:
    """A point mass pushed along a line: position and velocity (m, m/s), force (N), steps of 0.1 s, a little noise."""
    A = np.array([[1.0, 0.1], [0.0, 1.0]])
    B = np.array([[0.0], [0.1]])
    return LQR(A, B, np.eye(2), 0.1 * np.eye(1), 0.01 * np.eye(2), horizon=horizon, time_limit=time_limit)
