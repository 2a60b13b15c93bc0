"""The oracle: everything about a small :class:`TabularMDP` without sampling.

Every trajectory that can happen is written into one padded :class:`Trajectory`, with its exact probability beside it.
The ladder then runs over it by the same path as over sampled data, and sums take the place of averages: the bias and
the variance of a rung are numbers, not estimates.

    p_θ(τ) = P(s_0) · Π_t π_θ(a_t | s_{0:t}) · P(s_{t+1} | s_t, a_t) · P(r_t | s_t, a_t, s_{t+1})

In float64 (``jax.enable_x64``) "unbiased" means a bias below 1e-12.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from policygrad.envs.tabular import TabularMDP
from policygrad.ladder.psi import Psi
from policygrad.ladder.recursion import masked_sum
from policygrad.learn.gradient import gradient_samples, policy_gradient, steps_from
from policygrad.models.actor_critic import ActorCritic, initial_carry, is_memoryless, make_model, unroll
from policygrad.types import COLUMNS, Trajectory

LIMIT = 100_000
"""So many trajectories, or tuples of trajectories, are enumerated without being asked for more."""


# Dynamic programming


def action_values(mdp: TabularMDP, value: Float[Array, "S"], gamma: Float[Array, ""] | float) -> Float[Array, "S A"]:
    """Q(s, a) = Σ_{s'} P(s' | s, a)·[r̄(s, a, s') + γ·V(s')], with V zero at ends. Sutton & Barto (2018), eq. 4.6.

    ``value`` is what a state is worth once it is reached, in units of return; r̄ is the mean of a random reward.
    """
    transition, reward = jnp.asarray(mdp.transition), jnp.asarray(np.sum(mdp.reward_prob * mdp.reward_value, axis=-1))
    following = jnp.where(mdp.terminal, 0, value)
    return jnp.sum(transition * (reward + gamma * following), axis=-1)


@eqx.filter_jit
def policy_evaluation(
    mdp: TabularMDP,
    policy_probs: Float[Array, "S A"] | Float[Array, "T S A"],
    gamma: Float[Array, ""] | float,
    *,
    final_value: Float[Array, "S"] | None = None,
) -> Float[Array, "S"] | Float[Array, "T+1 S"]:
    """V^π, exactly; zero at terminal states. The time limit is no part of it: the problem goes on where watching it
    stops.

    - ``[S, A]`` without a horizon: V^π = (I − γP_π)⁻¹ r_π, ``[S]``. With γ = 1 the policy must end for sure.
    - otherwise backwards in time, V_t(s) = Σ_a π_t(a | s)·Q_t(s, a) from V_T = ``final_value`` (zero if None), with T
      the MDP's horizon or the length of ``policy_probs``: ``[T+1, S]``.

    Differentiable in ``policy_probs``. Bellman (1957); Sutton & Barto (2018), §4.1.
    """
    policy_probs = jnp.asarray(policy_probs)
    if policy_probs.ndim == 2:
        if mdp.horizon is None:
            return stationary_value(mdp, policy_probs, gamma)
        policy_probs = jnp.broadcast_to(policy_probs, (mdp.horizon, *policy_probs.shape))

    def step(value: Array, probs: Array) -> tuple[Array, Array]:
        value = jnp.where(mdp.terminal, 0, jnp.sum(probs * action_values(mdp, value, gamma), axis=-1))
        return value, value

    zero = jnp.zeros(mdp.n_states, policy_probs.dtype)
    last = zero if final_value is None else jnp.where(mdp.terminal, 0, jnp.asarray(final_value, zero.dtype))
    return jnp.concatenate([jax.lax.scan(step, last, policy_probs, reverse=True)[1], last[None]])


def stationary_value(mdp: TabularMDP, probs: Float[Array, "S A"], gamma: Float[Array, ""] | float) -> Float[Array, "S"]:
    """The solution of (I − γP_π)V = r_π, where P_π leads out of and into states that are no ends."""
    alive = ~mdp.terminal
    probs = probs * alive[:, None]
    transition = jnp.einsum("sa,sax->sx", probs, jnp.asarray(mdp.transition * alive))
    reward = jnp.sum(probs * action_values(mdp, jnp.zeros(mdp.n_states), gamma), axis=-1)
    return jnp.linalg.solve(jnp.eye(mdp.n_states) - gamma * transition, reward)


# Every trajectory


class Paths(NamedTuple):
    """Every path that the dynamics allow, whoever acts: n of them, padded to T rows."""

    state: Int[np.ndarray, "T n"]
    action: Int[np.ndarray, "T n"]
    successor: Int[np.ndarray, "T n"]
    outcome: Int[np.ndarray, "T n"]
    """Which of the M possible rewards was paid."""
    mask: Bool[np.ndarray, "T n"]
    probability: Float[np.ndarray, "n"]
    """Π of the initial, transition and reward probabilities; the policy's are not in it."""


def enumerate_trajectories(
    mdp: TabularMDP, model: Any, *, behaviour: Any = None, limit: int = LIMIT
) -> tuple[Trajectory, Float[Array, "n"]]:
    """Every trajectory of an MDP with a horizon or a time limit, ``[T, n]``, and its exact probability under the
    policy that acts.

    Columns are whole episodes, padded with masked rows. The model may be tabular, see the time, or have a memory;
    transitions and rewards may be random. The sum of the probabilities is one.

    Args:
        model: π; its initial carry is the trajectory's.
        behaviour: μ, the policy that acts, if it is another than π: ``log_mu`` and the probabilities are its own.
        limit: the largest number of trajectories.

    Raises:
        ValueError: neither horizon nor time limit, or more than ``limit`` trajectories.
    """
    paths = possible_paths(mdp, limit)
    trajectory = as_trajectory(mdp, paths)
    log_mu = action_log_probs(model if behaviour is None else behaviour, trajectory)
    probability = jnp.asarray(paths.probability) * jnp.exp(jnp.sum(log_mu, axis=0))
    return trajectory._replace(log_mu=log_mu, carry=initial_carry(model, probability.shape)), probability


def possible_paths(mdp: TabularMDP, limit: int = LIMIT) -> Paths:
    """The tree of all (action, successor, reward), level by level."""
    n_steps = episode_steps(mdp)
    if n_steps is None:
        raise ValueError("enumeration needs episodes of bounded length: give the TabularMDP a horizon or a time_limit")
    joint = mdp.transition[..., None] * mdp.reward_prob  # [S, A, S, M]
    state = np.flatnonzero(mdp.initial)
    probability = mdp.initial[state]
    rows = np.zeros((0, len(state), 4), np.int32)
    finished: list[tuple[np.ndarray, np.ndarray]] = []
    for time in range(1, n_steps + 1):
        parent, action, successor, outcome = np.nonzero(joint[state])
        if sum(len(p) for _, p in finished) + len(parent) > limit:
            raise ValueError(
                f"more than {limit} trajectories after {time} of {n_steps} steps: shorten the episodes, or raise limit"
            )
        row = np.stack([state[parent], action, successor, outcome], axis=-1).astype(np.int32)
        rows = np.concatenate([rows[:, parent], row[None]])
        probability = probability[parent] * joint[tuple(row.T)]
        over = mdp.terminal[successor] | (time == n_steps)
        padding = np.full((n_steps - time, int(over.sum()), 4), -1, np.int32)
        finished.append((np.concatenate([rows[:, over], padding]), probability[over]))
        rows, probability, state = rows[:, ~over], probability[~over], successor[~over]
    all_rows, probabilities = (np.concatenate(parts, axis=-2 if parts[0].ndim == 3 else 0) for parts in zip(*finished))
    mask = all_rows[..., 0] >= 0
    state, action, successor, outcome = np.moveaxis(np.where(mask[..., None], all_rows, 0), -1, 0)
    return Paths(state, action, successor, outcome, mask, probabilities)


def episode_steps(mdp: TabularMDP) -> int | None:
    """After so many steps an episode is over at the latest; None: never."""
    return min((n for n in (mdp.horizon, mdp.time_limit) if n is not None), default=None)


def as_trajectory(mdp: TabularMDP, paths: Paths) -> Trajectory:
    """The paths as a trajectory without a policy: ``log_mu`` is zero and ``carry`` None."""
    n_steps, n = paths.mask.shape
    time = np.broadcast_to(np.arange(n_steps)[:, None], (n_steps, n))
    last = paths.mask & ~np.append(paths.mask[1:], np.zeros((1, n), bool), axis=0)
    terminated = paths.mask & (mdp.terminal[paths.successor] | (time + 1 == mdp.horizon))
    reward = mdp.reward_value[paths.state, paths.action, paths.successor, paths.outcome]
    observation = mdp.observation.astype(np.int32)
    return Trajectory(
        obs=jnp.asarray(observation[paths.state]),
        action=jnp.asarray(paths.action),
        reward=jnp.asarray(np.where(paths.mask, reward, 0)),
        terminated=jnp.asarray(terminated),
        truncated=jnp.asarray(last & ~terminated),
        log_mu=jnp.zeros((n_steps, n)),
        time=jnp.asarray(time, jnp.int32),
        start=jnp.asarray(time == 0),
        mask=jnp.asarray(paths.mask),
        carry=None,
        cut_obs=jnp.asarray(observation[final_state(paths)])[None],
    )


def final_state(paths: Paths) -> Int[np.ndarray, "n"]:
    """The state after a path's last row."""
    return paths.successor[paths.mask.sum(axis=0) - 1, np.arange(paths.mask.shape[1])]


@eqx.filter_jit
def action_log_probs(model: Any, trajectory: Trajectory) -> Float[Array, "T n"]:
    """log π(a_t | s_{0:t}) along whole episodes, from the model's own initial carry; zero on masked rows."""
    carry = initial_carry(model, trajectory.mask.shape[1:])
    output, _ = unroll(model, trajectory._replace(carry=carry))
    return jnp.where(trajectory.mask, jnp.asarray(output.log_prob), 0)


def log_trajectory_probability(mdp: TabularMDP, model: Any, trajectory: Trajectory) -> Float[Array, "n"]:
    """log p_θ(τ) of whole episodes ``[T, n]``, every factor in it: initial state, policy, transitions, rewards. In
    nats.

    Differentiable in the model: its gradient is Σ_t ∇log π_θ(a_t | s_{0:t}), though the dynamics are in it (the
    model-free theorem). Where states look the same, or several rewards are equal, it is the probability of all that
    looks like τ, by the forward recursion α(s') = Σ_s α(s)·π·P(s', r | s, a) (Baum et al. 1970).
    """
    log_pi = action_log_probs(model, trajectory)
    observation = jnp.asarray(mdp.observation)
    transition, reward_value, reward_prob = (
        jnp.asarray(x) for x in (mdp.transition, mdp.reward_value, mdp.reward_prob)
    )

    def step(alpha: Array, row: tuple[Trajectory, Array]) -> tuple[Array, None]:
        now, log_pi = row
        alpha = jnp.where(now.mask, alpha * (observation == now.obs), alpha)
        pays = jnp.sum(reward_prob[:, now.action] * (reward_value[:, now.action] == now.reward), axis=-1)
        successor = jnp.exp(log_pi) * alpha @ (transition[:, now.action] * pays)
        ends = jnp.asarray(mdp.terminal) | (False if mdp.horizon is None else now.time + 1 >= mdp.horizon)
        fits = (ends == now.terminated) & (~now.truncated | (observation == now.cut_obs))
        return jnp.where(now.mask, successor * fits, alpha), None

    def one(column: Trajectory, log_pi: Array) -> Array:
        rows = column._replace(cut_obs=jnp.broadcast_to(column.cut_obs[0], column.obs.shape))
        return jnp.log(jnp.sum(jax.lax.scan(step, jnp.asarray(mdp.initial), (rows, log_pi))[0]))

    columns = COLUMNS._replace(carry=None)
    return jax.vmap(one, in_axes=(columns, 1))(trajectory._replace(carry=None), log_pi)


# The objective and its gradient


def objective(
    mdp: TabularMDP,
    model: Any,
    gamma: Float[Array, ""] | float = 1.0,
    *,
    final_value: Float[Array, "S"] | None = None,
    limit: int = LIMIT,
) -> Float[Array, ""]:
    """J(θ) = E_τ[Σ_t γ^t r_t], exactly and differentiably: ``jax.grad`` of it is the true policy gradient.

    Memoryless policies by dynamic programming over (time, state), policies with a memory by enumeration, Σ_τ
    p_θ(τ)·R^γ(τ).

    Args:
        gamma: γ in [0, 1].
        final_value: what a state is worth where the *time limit* cuts the episode: J = E[Σ_{t<T} γ^t r_t +
            γ^T·V̄(s_T)] with V̄ a constant. By default nothing, J of what is watched. With V̄ = V^π the gradient is
            Σ_{t<T} γ^t E[∇log π(a_t | s_t)·Q^π(s_t, a_t)]: the rows watched, credited with all that follows. An end
            (terminal state, horizon) is worth nothing.

    Without horizon and time limit the problem is infinite: J = P(s_0)·V^π by a linear solve.

    Raises:
        ValueError: an infinite problem with a policy that has a memory or sees the time.
    """
    if is_memoryless(model):
        return objective_by_dynamic_programming(mdp, model, gamma, final_value=final_value)
    return objective_by_enumeration(mdp, model, gamma, final_value=final_value, limit=limit)


@eqx.filter_jit
def objective_by_dynamic_programming(
    mdp: TabularMDP, model: Any, gamma: Float[Array, ""] | float, *, final_value: Float[Array, "S"] | None = None
) -> Float[Array, ""]:
    """:func:`objective` of a memoryless policy."""
    n_steps = episode_steps(mdp)
    if n_steps is None:
        if getattr(getattr(model, "encoder", None), "horizon", None) is not None:
            raise ValueError("a time-to-go policy needs an MDP with a horizon or a time_limit: give it one")
        return jnp.asarray(mdp.initial) @ policy_evaluation(mdp, policy_probabilities(mdp, model, 1)[0], gamma)
    last = None if n_steps == mdp.horizon else final_value
    values = policy_evaluation(mdp, policy_probabilities(mdp, model, n_steps), gamma, final_value=last)
    return jnp.asarray(mdp.initial) @ values[0]


@eqx.filter_jit
def objective_by_enumeration(
    mdp: TabularMDP,
    model: Any,
    gamma: Float[Array, ""] | float,
    *,
    final_value: Float[Array, "S"] | None = None,
    limit: int = LIMIT,
) -> Float[Array, ""]:
    """:func:`objective` of any policy: Σ_τ p_θ(τ)·R^γ(τ)."""
    paths = possible_paths(mdp, limit)
    trajectory = as_trajectory(mdp, paths)
    probability = jnp.asarray(paths.probability) * jnp.exp(jnp.sum(action_log_probs(model, trajectory), axis=0))
    returns = masked_sum(gamma**trajectory.time * trajectory.reward, trajectory.mask, axis=0)
    if final_value is not None:
        cut = jnp.any(trajectory.truncated, axis=0)
        returns = returns + jnp.where(
            cut, gamma ** paths.mask.sum(axis=0) * jnp.asarray(final_value)[final_state(paths)], 0
        )
    return jnp.sum(probability * returns)


def gradient(
    mdp: TabularMDP,
    model: Any,
    gamma: Float[Array, ""] | float = 1.0,
    *,
    final_value: Float[Array, "S"] | None = None,
    limit: int = LIMIT,
) -> PyTree:
    """∇J(θ), exactly: a tree like the model's inexact arrays, pointing uphill. For the arguments see
    :func:`objective`."""
    return compiled_gradient(mdp, model, jnp.asarray(gamma, jnp.result_type(float)), final_value, limit)


@eqx.filter_jit
def compiled_gradient(mdp: TabularMDP, model: Any, gamma: Float[Array, ""], final_value: Any, limit: int) -> PyTree:
    params, static = eqx.partition(model, eqx.is_inexact_array)
    return jax.grad(
        lambda params: objective(mdp, eqx.combine(params, static), gamma, final_value=final_value, limit=limit)
    )(params)


@eqx.filter_jit
def policy_probabilities(mdp: TabularMDP, model: Any, n_steps: int) -> Float[Array, "T S A"]:
    """π_t(a | s) of a memoryless policy, for t = 0 … ``n_steps`` − 1. States that look the same get the same
    probabilities."""
    if not is_memoryless(model):
        raise ValueError("π(a | s) of a policy with a memory depends on the past: use enumerate_trajectories")
    shape = (n_steps, mdp.n_states, mdp.n_actions)
    time, state, action = (jnp.asarray(x, jnp.int32) for x in np.indices(shape))
    zero, no = jnp.zeros(shape), jnp.zeros(shape, bool)
    rows = Trajectory(jnp.asarray(mdp.observation)[state], action, zero, no, no, zero, time, time == 0, ~no, None, None)
    return jnp.exp(jnp.asarray(unroll(model, rows)[0].log_prob))


def table_critic(mdp: TabularMDP, value: Float[Array, "S"] | Float[Array, "T+1 S"]) -> ActorCritic:
    """A model whose V is the given table over states, or over (time, state): an exact critic, or one that is wrong in
    a known way.

    Raises:
        ValueError: states that look the same: their values cannot be told apart by what is seen.
    """
    value = jnp.asarray(value)
    if not np.array_equal(mdp.observation, np.arange(mdp.n_states)):
        raise ValueError("a table of values needs states that are seen: the MDP's observation must be its state")
    horizon = None if value.ndim == 1 else len(value)
    critic = make_model(
        mdp.observation_space, mdp.action_space, policy="tabular", horizon=horizon, key=jax.random.key(0)
    )
    return eqx.tree_at(lambda model: model.critic.last.rows, critic, value[..., None])


# The moments of an estimator


class Moments(NamedTuple):
    """Exact moments of a gradient estimate ĝ."""

    mean: PyTree
    """E[ĝ], a tree like the model's inexact arrays."""
    variance: Float[Array, ""]
    """E‖ĝ − E[ĝ]‖², the total variance: the trace of the covariance."""
    second_moment: Float[Array, ""]
    """E‖ĝ‖²."""
    bias: PyTree | None
    """E[ĝ] − reference; None where no reference was given."""


def moments(mdp: TabularMDP, model: Any, psi: Psi, **options: Any) -> Moments:
    """The exact moments of ĝ = (1/N) Σ_i Σ_t ∇log π(a_{i,t})·Ψ_{i,t}. The options are those of
    :func:`ladder_moments`."""
    return ladder_moments(mdp, model, {"psi": psi}, **options)["psi"]


def ladder_moments(
    mdp: TabularMDP,
    model: Any,
    psis: Mapping[str, Psi],
    *,
    batch: int = 1,
    behaviour: Any = None,
    critic: Any = None,
    reference: PyTree | None = None,
    limit: int = LIMIT,
) -> dict[str, Moments]:
    """The exact :func:`moments` of several rungs, in one compiled program: compiling costs more than running.

    With N = ``batch`` independent trajectories. Where a Ψ couples them the sum runs over all N-tuples, n^N of them,
    with the product of their probabilities. Otherwise the mean is that of one trajectory, and the variance that of one
    trajectory over N.

    Args:
        psis: the rungs; each brings its own γ.
        behaviour: μ, the policy that acts, if it is another than π.
        critic: a model whose V is used instead of ``model``'s: see :func:`table_critic`.
        reference: what the bias is counted from, usually ``gradient(mdp, model, gamma)``.
        limit: the largest number of trajectories, and of N-tuples.

    Raises:
        ValueError: a coupling Ψ with ``batch=1``, or too many trajectories or tuples.
    """
    coupled = any("batch" in psi.needs for psi in psis.values())
    if coupled and batch < 2:
        raise ValueError("this Psi couples the trajectories of a batch: give batch=2 or batch=3")
    trajectory, probability = enumerate_trajectories(mdp, model, behaviour=behaviour, limit=limit)
    rungs = jax.tree.map(jnp.asarray, dict(psis))
    if not coupled:
        singles = single_moments(model, trajectory, probability, rungs, critic, reference)
        return {name: of_independent(singles[name], batch) for name in psis}
    n = len(probability)
    if n**batch > limit:
        count = f"{n} trajectories make {n**batch} tuples of {batch}"
        raise ValueError(f"{count}, more than {limit}: take a smaller MDP or batch, or raise limit")
    tuples = jnp.asarray(np.indices((n,) * batch).reshape(batch, -1).T)
    found = tuple_moments(model, trajectory, probability, rungs, critic, reference, tuples)
    return {name: found[name] for name in psis}  # a dict that went through JAX comes back sorted


@eqx.filter_jit
def single_moments(
    model: Any,
    trajectory: Trajectory,
    probability: Float[Array, "n"],
    psis: dict[str, Psi],
    critic: Any,
    reference: PyTree | None,
) -> dict[str, Moments]:
    """ĝ is the estimate of one trajectory."""
    weights = stack(psi(steps_from(model, trajectory, psi, critic=critic)) for psi in psis.values())
    estimates = jax.vmap(lambda w: gradient_samples(model, trajectory, w))(weights)
    return moments_of(psis, estimates, probability, reference)


@eqx.filter_jit
def tuple_moments(
    model: Any,
    trajectory: Trajectory,
    probability: Float[Array, "n"],
    psis: dict[str, Psi],
    critic: Any,
    reference: PyTree | None,
    tuples: Int[Array, "m N"],
) -> dict[str, Moments]:
    """ĝ is the estimate of a tuple of trajectories, each tuple a batch of its own."""

    def one(columns: Int[Array, "N"]) -> PyTree:
        batch = take_columns(trajectory, columns)
        weights = stack(psi(steps_from(model, batch, psi, critic=critic)) for psi in psis.values())
        return jax.vmap(lambda w: policy_gradient(model, batch, w))(weights)

    return moments_of(psis, jax.vmap(one, out_axes=1)(tuples), jnp.prod(probability[tuples], axis=-1), reference)


def moments_of(
    psis: dict[str, Psi], estimates: PyTree, probability: Float[Array, "n"], reference: PyTree | None
) -> dict[str, Moments]:
    """The moments of leaves ``[rungs, n, ...]`` whose n values occur with the given probabilities, rung by rung."""

    def one(estimates: PyTree) -> Moments:
        mean = jax.tree.map(lambda x: jnp.tensordot(probability, x, axes=1), estimates)
        samples, centre = jax.vmap(as_vector)(estimates), as_vector(mean)
        variance = probability @ jnp.sum((samples - centre) ** 2, axis=-1)
        bias = None if reference is None else jax.tree.map(jnp.subtract, mean, reference)
        return Moments(mean, variance, probability @ jnp.sum(samples**2, axis=-1), bias)

    rungs = jax.vmap(one)(estimates)
    return {name: jax.tree.map(lambda x: x[k], rungs) for k, name in enumerate(psis)}  # noqa: B023


def of_independent(one: Moments, batch: int) -> Moments:
    """The moments of the mean of ``batch`` independent estimates."""
    variance = one.variance / batch
    return one._replace(variance=variance, second_moment=one.second_moment - one.variance + variance)


def stack(weights: Iterable[Float[Array, "T B"]]) -> Float[Array, "rungs T B"]:
    return jnp.stack(list(weights))


def take_columns(trajectory: Trajectory, columns: Int[Array, "N"]) -> Trajectory:
    """A batch of the given columns, in their order; a column may be taken twice."""

    def take(axis: int) -> Callable[[Array], Array]:
        return lambda x: jnp.take(x, columns, axis=axis)

    return jax.tree.map(lambda axis, leaf: jax.tree.map(take(axis), leaf), COLUMNS, trajectory)


def as_vector(tree: PyTree) -> Float[Array, "d"]:
    """All leaves in one vector."""
    return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(tree)])
