"""The oracle of episodes that have no bounded length: exact moments of gradient estimators by linear systems.

Nothing is enumerated and nothing sampled. For a memoryless policy what happens from a state on depends on that state
alone, so that the moments of the rest of an episode obey Bellman equations of their own. With s_t = ∇log π(a_t | s_t):

- the total return: S = Σ_t s_t and R = Σ_t γ^t r_t from here on. A step turns (S, R) into (s + S', r + γR'), hence

      E[SⁱRʲ | s] = Σ_{k≤i, m≤j} C(i,k)·C(j,m)·γ^m·E[s^{i−k}·r^{j−m}·E[SᵏRᵐ | s'] | s],        i, j ≤ 2;

- backward credit: a_t is credited with e_t = u_t + κ_t·e_{t+1} (reward-to-go, TD(0), λ-returns; n-step returns as a
  vector of them). A step turns (X, e) into (s·(e − c) + X', u + κe'), hence E[e], E[e²], E[X], E[Xe] and E‖X‖² in turn.

Each moment is linear in itself, at the next state, with lower moments as constants: one linear system where the time
does not matter, and one sweep backwards where it does. Importance weights multiply step by step and enter as factors.

Sobel (1982), "The variance of discounted Markov decision processes", *Journal of Applied Probability* 19; Tamar, Di
Castro & Mannor (2016), "Learning the variance of the reward-to-go", *JMLR* 17. NumPy, float64.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from policygrad.envs.tabular import TabularMDP
from policygrad.ladder.psi import Psi
from policygrad.learn.gradient import gradient_samples
from policygrad.measure.exact import Moments, as_vector, episode_steps, of_independent
from policygrad.models.actor_critic import is_memoryless, unroll, values
from policygrad.types import Trajectory

POWERS = {
    "none": [(0, 0, 0)],
    "trajectory": [(1, 1, 1), (2, 2, 2)],
    "decision": [(0, 1, 2)],
    "vtrace": [(0, 0, 0)],
}
"""The power of ρ_t that moments of order 0, 1 and 2 carry: for E[ĝ] in the first entry, for E‖ĝ‖² in the last."""

BASELINES = ("none", "constant", "value")
"""Baselines that look at one trajectory alone."""

COUPLED = ("mean", "leave_one_out")
"""Baselines that look at the returns of the other trajectories, and nothing else of them."""

NO_METHOD = {
    "mean": "it averages targets over episodes of random length",
    "leave_one_out": "it averages targets over episodes of random length",
    "per_time": "it averages over the episodes that are still running",
    "optimal": "it is a ratio of sums over the batch",
    "optimal_in_sample": "it is a ratio of sums over the batch",
    "optimal_per_time": "it is a ratio of sums over the batch",
}
"""Why a coupling baseline has no recursion."""

Weights = Float[np.ndarray, "T S A"]


def recursive_moments(
    mdp: TabularMDP,
    model: Any,
    psi: Psi,
    *,
    batch: int = 1,
    behaviour: Any = None,
    critic: Any = None,
    reference: PyTree | None = None,
) -> Moments:
    """The exact moments of ĝ = (1/N) Σ_i Σ_t ∇log π(a_{i,t})·Ψ_{i,t}, however long episodes are.

    The same numbers as :func:`policygrad.measure.moments`, whose sum runs over all trajectories. Here the work grows
    with the states (cubed, times n⁶ for n-step returns), or with the states squared times the length of an episode.
    A time limit cuts: targets that bootstrap continue with V(s'), the others do not. A horizon ends.

    Args:
        model: π, memoryless; it may see the time if episodes are bounded. States may look the same.
        batch: N, the number of independent trajectories.
        behaviour: μ, the policy that acts, if it is another than π.
        critic: a model whose V is used instead of ``model``'s: see :func:`policygrad.measure.table_critic`.
        reference: what the bias is counted from, usually ``gradient(mdp, model, gamma)``.

    The precision is that of ∇log π: float64 only under ``jax.enable_x64``.

    Raises:
        ValueError: a rung for which no exact method is known, or episodes that never end (see :func:`why_not`); a
            coupling Ψ with ``batch=1``.
    """
    if (sentence := why_not(mdp, model, psi, behaviour=behaviour, critic=critic)) is not None:
        raise ValueError(sentence)
    if psi.baseline in COUPLED and batch < 2:
        raise ValueError("this Psi couples the trajectories of a batch: give batch=2 or more")
    psi = jax.tree.map(lambda x: np.asarray(x, np.float64), psi)
    process = process_of(mdp, model, psi, behaviour, critic)
    if psi.baseline in COUPLED:
        mean, second = coupled_by_returns(process, psi, batch)
    else:
        mean, second = one_trajectory(process, psi)
    params, _ = eqx.partition(model, eqx.is_inexact_array)
    tree = ravel_pytree(params)[1](jnp.asarray(mean))
    bias = None if reference is None else jax.tree.map(jnp.subtract, tree, reference)
    found = Moments(tree, jnp.asarray(max(second - mean @ mean, 0.0)), jnp.asarray(second), bias)
    return found if psi.baseline in COUPLED else of_independent(found, batch)


def why_not(mdp: TabularMDP, model: Any, psi: Psi, *, behaviour: Any = None, critic: Any = None) -> str | None:
    """Why :func:`recursive_moments` has no answer for this rung, as a sentence; None where it has one."""
    return next(objections(mdp, model, psi, behaviour, critic), None)


def objections(mdp: TabularMDP, model: Any, psi: Psi, behaviour: Any, critic: Any) -> Iterator[str]:
    """All that stands against an exact answer, what is cheap to see first."""
    if psi.standardize:
        yield "no exact method is known for standardize=True: it divides by a statistic of the whole batch"
    if psi.correction not in POWERS:
        yield f"no exact method is known for correction={psi.correction!r}: it is no product with one factor a step"
    if psi.baseline not in BASELINES and not (psi.baseline in COUPLED and psi.target == "total_return"):
        rung = f"target={psi.target!r} with baseline={psi.baseline!r}"
        yield f"no exact method is known for {rung}: {NO_METHOD[psi.baseline]}"
    if psi.baseline in COUPLED and behaviour is not None and psi.correction == "none":
        yield "no exact method is known for a coupling baseline on uncorrected data: choose correction='trajectory'"
    if psi.baseline == "constant" and np.size(psi.b) != 1:
        yield "the constant baseline must be one number here: give b as a float"
    models = [m for m in (model, behaviour, critic) if m is not None]
    if not all(map(is_memoryless, models)):
        yield "a policy or critic with a memory has no finite linear system: enumerate short episodes instead"
    if episode_steps(mdp) is None:
        if any(sees_time(m, unknown=False) for m in models):
            yield "a policy or critic that sees the time needs an MDP with a horizon or a time_limit: give it one"
        yield from infinities(mdp, process_of(mdp, model, psi, behaviour, critic), psi)


def infinities(mdp: TabularMDP, process: "Process", psi: Psi) -> Iterator[str]:
    """What may be infinite where neither a horizon nor a time limit bounds an episode."""
    goes = edges(process.acting[0], mdp.transition)
    if np.any(np.any(goes, axis=1) & ~reached(goes.T, mdp.terminal)):
        yield "some episodes never end, and a sum over them has no moments: give the MDP a horizon or a time_limit"
    discount = psi.gamma**2 if psi.discounted and psi.correction == "decision" else 1.0
    weight = discount * weights(process, POWERS[psi.correction][-1][-1])[0]
    if np.max(np.abs(np.linalg.eigvals(np.einsum("sa,sax->sx", weight, mdp.transition)))) >= 1:
        yield (
            "the second moment is infinite, because squared importance weights grow faster than episodes end: "
            "give the MDP a horizon or a time_limit, or act more like the policy"
        )


def optimal_baseline(mdp: TabularMDP, model: Any, gamma: float = 1.0) -> float:
    """b* = E[‖S‖²R^γ] / E[‖S‖²], exactly: the constant that leaves S·(R^γ − b), S = Σ_t ∇log π(a_t | s_t), the least
    variance; zero where S is. In units of return.

    Weaver & Tao (2001), "The optimal reward baseline for gradient-based reinforcement learning".

    Raises:
        ValueError: a policy with a memory, or episodes that never end.
    """
    psi = Psi("total_return", gamma=float(gamma))
    if (sentence := why_not(mdp, model, psi)) is not None:
        raise ValueError(sentence)
    process = process_of(mdp, model, psi)
    moment = return_moments(process, psi, weights(process, 0))
    score_sq = moment[2, 0][0, 0]
    return float(moment[2, 1][0, 0] / score_sq) if score_sq > 0 else 0.0


# The two families


def one_trajectory(process: "Process", psi: Psi) -> tuple[Float[np.ndarray, "d"], float]:
    """E[ĝ] and E‖ĝ‖² of one trajectory. A family is given the weights of moments of order 0, 1 and 2."""
    if psi.correction == "vtrace":  # min(ρ̄, ρ_t) is a factor of s_t alone
        process = process._replace(score=np.minimum(psi.rho_bar, process.ratio)[..., None] * process.score)
    family = by_total_return if psi.target == "total_return" else by_backward_credit
    found = [family(process, psi, [weights(process, power) for power in powers]) for powers in POWERS[psi.correction]]
    return found[0][0], float(found[-1][1])


def by_total_return(process: "Process", psi: Psi, weight: list[Weights]) -> tuple[Float[np.ndarray, "d"], float]:
    """ĝ = R·S − C with S = Σ_t s_t and C = Σ_t c(s_t)·s_t: E[ĝ] = E[RS] − E[C], and E‖ĝ‖² = E[R²‖S‖²] − 2E[R S·C] +
    E‖C‖²."""
    moment = return_moments(process, psi, weight[0])
    mean = moment[1, 1][0] - moment[1, 0][1]
    return mean, moment[2, 2][0, 0] - 2 * moment[2, 1][0, 1] + moment[2, 0][1, 1]


def return_moments(process: "Process", psi: Psi, weight: Weights) -> dict[tuple[int, int], Any]:
    """E[ZⁱRʲ] from the start of an episode, i, j ≤ 2, with Z = (S, C): numbers for i = 0, ``[2, d]`` for i = 1, and
    for i = 2 the inner products ‖S‖², S·C and ‖C‖² as a matrix ``[2, 2]``. By the binomial of the module's head."""
    baseline = baseline_of(process, psi)
    z = np.stack([np.ones_like(baseline), baseline], axis=-1)  # a step adds z·s to Z
    reward = process.reward
    paid = [np.ones_like(reward), reward, reward**2 + process.reward_variance]  # E[r^j | s, a, s']
    later = {(0, 0): weight_to_come(process, weight)}
    start: dict[tuple[int, int], Any] = {}

    def term(i: int, j: int, k: int, m: int) -> np.ndarray:
        """C(i, k)·E[s^{i−k}·r^{j−m}·E[ZᵏRᵐ | s'] | s]; squares of vectors are inner products."""
        p = process.transition * paid[j - m]
        if k == i:
            return over_successors(over_actions(weight, p), later[k, m])
        if k == 1:
            products = inner(process.score, later[k, m])
            mixed = outer(z, over_actions(weight, np.einsum("tsax,tsaxq->tsaq", p, products)))
            return mixed + mixed.mT
        credited = weight * over_successors(p, later[k, m])
        if i == 1:
            return outer(z, over_actions(credited, process.score))
        return outer(z, z) * over_actions(credited, square(process.score))[..., None, None]

    for i, j in list(np.ndindex(3, 3))[1:]:
        terms = (math.comb(j, m) * psi.gamma**m * term(i, j, k, m) for k, m in later if k <= i and m <= j)
        moment = solve(process, weight, sum(terms, start=np.zeros(())), psi.gamma**j)
        start[i, j], later[i, j] = at_start(process, moment), following(process, moment)
    return start


def by_backward_credit(process: "Process", psi: Psi, weight: list[Weights]) -> tuple[Float[np.ndarray, "d"], float]:
    """ĝ = X with X = s·(h·y − c) + f·X' and the credits y = v + D·y' (see :class:`Credit`); f is γ if ``discounted``,
    else 1."""
    credit, fade = credit_of(process, psi), psi.gamma if psi.discounted else 1.0
    paid, _, decay, h = credit
    score, c, p = process.score, baseline_of(process, psi)[..., None], process.transition[..., None, :]
    rest = weight_to_come(process, weight[0])
    ahead = over_successors(process.transition[None], rest)
    y, yy = credit_moments(process, credit, weight, rest)

    # E[X] = E[s·(h·y − c) + f·X']
    advantage = y @ h - c * ahead
    x = solve(process, weight[1], over_actions(weight[1] * advantage, score), fade)
    x_later = following(process, x)

    # E[y Xᵀ] = E[y·(h·y − c)·sᵀ + v·f·X'ᵀ + D·y'·f·X'ᵀ]
    here = over_actions(weight[2][..., None] * (yy @ h - c[..., None] * y), score)
    there = over_successors(over_actions(weight[2], p * paid), x_later)
    yx = solve(process, weight[2], here + fade * there, fade * decay)

    # E‖X‖² = E[‖s‖²·(h·y − c)² + 2f·(h·v − c)·s·X' + 2f·s·(h·D·y'X'ᵀ) + f²·‖X'‖²]
    here = square(score) * (yy @ h @ h - 2 * c * (y @ h) + c**2 * ahead)
    by_paid = np.sum(process.transition * (h @ paid - c[..., None]) * inner(score, x_later), axis=-1)
    by_credit = np.einsum("sax,tsaxi->tsai", process.transition, inner(score, following(process, yx)))
    known = here + 2 * fade * (by_paid + np.sum(h @ decay * by_credit, axis=-1))
    xx = solve(process, weight[2], over_actions(weight[2], known), fade**2)
    return at_start(process, x), at_start(process, xx)


def credit_moments(
    process: "Process", credit: "Credit", weight: list[Weights], rest: Float[np.ndarray, "T S"]
) -> tuple[Float[np.ndarray, "T S A k"], Float[np.ndarray, "T S A k k"]]:
    """E[y | s, a] and E[yyᵀ | s, a], y = v + D·y': E[yyᵀ] = E[vvᵀ + v·(D·y')ᵀ + D·y'·vᵀ + D·y'y'ᵀ·Dᵀ]."""
    paid, load, decay, h = credit
    p = process.transition[..., None, :] * paid

    known = over_successors(p, rest)
    y = solve(process, weight[1], over_actions(weight[1], known)[..., None], decay)
    y_later = following(process, y)
    y_now = known + (decay @ over_successors(process.transition[None], y_later))[..., 0]

    noise = over_successors(process.transition[None] * process.reward_variance, rest)
    cross = over_successors(p, y_later[..., 0]) @ decay.mT
    known = (p * rest[:, None, None, None]) @ paid.mT + noise[..., None, None] * outer(load, load) + cross + cross.mT
    flat = (*known.shape[:3], len(h) ** 2, -1)
    twice = np.einsum("tsaik,tsajl->tsaijkl", decay, decay).reshape(flat)
    yy = solve(process, weight[2], over_actions(weight[2], known.reshape(flat)), twice)
    yy_now = known.reshape(flat) + twice @ over_successors(process.transition[None], following(process, yy))
    return y_now, yy_now.reshape(known.shape)


class Credit(NamedTuple):
    """y_t = v_t + D_t·y_{t+1}, a vector of k credits, of which h·y_t is the target.

    With V' = V(s_{t+1}) all of them are y_t = o_t + ℓ_t·r_t + γ·[(ℓ_t − B_t·1)·V' + B_t·y_{t+1}]: at a cut y_{t+1} is
    V'·1, and after an end both are zero.

    - reward-to-go: B = 1, and nothing is bootstrapped (V' = 0);
    - TD(0): B = 0;  λ-return: B = λ;
    - n-step returns, y = (R⁽¹⁾, …, R⁽ⁿ⁾): B shifts, R⁽ᵏ⁾ = r + γ·R⁽ᵏ⁻¹⁾' and R⁽⁰⁾ = V; a mixture picks several;
    - V-trace, y = (q, v): q = r + γ·[(1 − λ)·V' + λ·v'] and v = V + ρ·(r + γV' − V) + γc·(v' − V').
    """

    paid: Float[np.ndarray, "T S A k S"]
    """E[v | s, a, s']."""
    load: Float[np.ndarray, "T S A k"]
    """ℓ: how often the reward is in v."""
    decay: Float[np.ndarray, "T S A k k"]
    """D = γB."""
    picked: Float[np.ndarray, "k"]
    """h."""


def credit_of(process: "Process", psi: Psi) -> Credit:
    """The credit that the target gives, see :class:`Credit`."""
    mix, picked = mixing(process, psi)
    load = np.ones((*process.ratio.shape, len(picked)))
    offset = np.zeros(load.shape)
    if psi.target == "vtrace":
        rho = np.minimum(psi.rho_bar, process.ratio)
        mix[..., 1, 1] = psi.lam * np.minimum(psi.c_bar, process.ratio)
        load[..., 1] = rho
        offset[..., 1] = (1 - rho) * process.value[..., None]
    next_value = process.next_value
    if psi.target in ("reward_to_go", "per_decision"):
        next_value = np.zeros_like(next_value)
    goes_on, next_value, reward = (
        x[..., None, :] for x in (process.goes_on[:, None, None], next_value[:, None, None], process.reward)
    )
    bootstrap = (load[..., None] - goes_on * np.sum(mix, axis=-1)[..., None]) * next_value
    paid = offset[..., None] + load[..., None] * reward + psi.gamma * bootstrap
    return Credit(paid, load, psi.gamma * mix, picked)


def mixing(process: "Process", psi: Psi) -> tuple[Float[np.ndarray, "T S A k k"], Float[np.ndarray, "k"]]:
    """B and h, see :class:`Credit`."""
    longest = not process.endless and psi.n >= len(process.goes_on)  # n-step returns that all run to the end
    mix, picked = {
        "reward_to_go": lambda: ([[1.0]], [1.0]),
        "per_decision": lambda: ([[1.0]], [1.0]),
        "td0": lambda: ([[0.0]], [1.0]),
        "lambda_return": lambda: ([[psi.lam]], [1.0]),
        "n_step": lambda: ([[1.0]], [1.0]) if longest else (np.eye(psi.n, k=-1), np.eye(psi.n)[-1]),
        "mixture": lambda: (np.eye(len(psi.weights), k=-1), psi.weights),
        "vtrace": lambda: ([[0.0, psi.lam], [0.0, 0.0]], [1.0, 0.0]),
    }[psi.target]()
    mix = np.asarray(mix, np.float64)
    return np.broadcast_to(mix, (*process.ratio.shape, *mix.shape)).copy(), np.asarray(picked, np.float64)


def coupled_by_returns(process: "Process", psi: Psi, batch: int) -> tuple[Float[np.ndarray, "d"], float]:
    """E[ĝ] and E‖ĝ‖² for ĝ = (1/N) Σ_i S_i·(R_i − b_i), b_i being the mean of the other N − 1 returns.

    Centre the returns: R̃ = R − E[R]. As E[S] = 0, all products of different trajectories vanish but those that hold
    R̃ with its own S: with g = E[SR̃] = E[ĝ],

        E‖ĝ_i‖² = E‖SR̃‖² + E‖S‖²·Var(R)/(N − 1),        E[ĝ_i·ĝ_j] = ‖g‖²·(1 + 1/(N − 1)²).

    The mean of *all* returns makes (1 − 1/N) times that. Importance weights are part of S, never of R.
    """
    plain = return_moments(process, psi, weights(process, 0))
    mean_return = float(plain[0, 1])
    centred = Psi("total_return", "constant", psi.correction, gamma=psi.gamma, b=mean_return)
    g, alone = one_trajectory(process, centred)
    score_sq = return_moments(process, psi, weights(process, POWERS[psi.correction][-1][0]))[2, 0][0, 0]
    others = batch - 1
    own = alone + score_sq * (plain[0, 2] - mean_return**2) / others
    second = own / batch + others / batch * (1 + 1 / others**2) * (g @ g)
    scale = others / batch if psi.baseline == "mean" else 1.0
    return scale * g, float(scale**2 * second)


# The process behind both


class Process(NamedTuple):
    """What one step is, for each time t < T (T = 1 if episodes have no bound: the time does not matter), state s,
    action a and successor x."""

    endless: bool
    """Neither a horizon nor a time limit."""
    initial: Float[np.ndarray, "S"]
    transition: Float[np.ndarray, "S A S"]
    reward: Float[np.ndarray, "T S A S"]
    """E[r | s, a, x]; with maximum entropy −α·log π(a | s) is in it."""
    reward_variance: Float[np.ndarray, "S A S"]
    goes_on: Float[np.ndarray, "T S"]
    """1 if the episode goes on after x was reached, else 0."""
    value: Float[np.ndarray, "T S"]
    next_value: Float[np.ndarray, "T S"]
    """V(x) after step t; zero at ends."""
    acting: Weights
    """μ(a | s); zero in states in which nothing is done: ends, and those never reached."""
    ratio: Weights
    """ρ = π/μ; zero where nothing is done."""
    score: Float[np.ndarray, "t S A d"]
    """∇log π(a | s); t is 1 if it is the same at all times."""


def process_of(mdp: TabularMDP, model: Any, psi: Psi, behaviour: Any = None, critic: Any = None) -> Process:
    """The arrays of a memoryless policy in an MDP."""
    n_steps = episode_steps(mdp)
    endless, n_times = n_steps is None, n_steps or 1

    def policy_of(model: Any) -> tuple[np.ndarray, np.ndarray]:
        log_prob, score = log_policy(mdp, model, n_times if sees_time(model, unknown=True) else 1)
        return np.asarray(log_prob, np.float64), np.asarray(score, np.float64)

    log_pi, score = policy_of(model)
    log_mu = log_pi if behaviour is None else policy_of(behaviour)[0]
    acting = np.where(mdp.terminal[:, None], 0, np.exp(log_mu))
    if endless:
        acting = acting * reached(edges(acting[0], mdp.transition), mdp.initial > 0)[:, None]

    scale = getattr(model, "normalizer", None)
    paid = mdp.reward_value if scale is None else np.asarray(scale.reward(jnp.asarray(mdp.reward_value)), np.float64)
    mean = np.sum(mdp.reward_prob * paid, axis=-1)
    reward = mean - float(psi.alpha) * log_pi[..., None]

    ends = np.broadcast_to(mdp.terminal, (n_times, mdp.n_states)).copy()
    cut = ends.copy()
    if not endless:
        cut[-1] = True
        ends[-1] |= n_steps == mdp.horizon
    value = np.asarray(all_values(mdp, model if critic is None else critic, n_times + 1), np.float64)

    def each_time(x: np.ndarray) -> np.ndarray:
        return np.broadcast_to(x, (n_times, *x.shape[1:]))

    return Process(
        endless=endless,
        initial=mdp.initial,
        transition=mdp.transition,
        reward=each_time(reward),
        reward_variance=np.sum(mdp.reward_prob * (paid - mean[..., None]) ** 2, axis=-1),
        goes_on=np.where(cut, 0.0, 1.0),
        value=value[:-1],
        next_value=np.where(ends, 0, value[1:]),
        acting=each_time(acting),
        ratio=each_time(np.where(acting > 0, np.exp(log_pi - log_mu), 0)),
        score=score,
    )


def sees_time(model: Any, *, unknown: bool) -> bool:
    """Whether π and V differ from time to time; ``unknown`` where the model does not say."""
    encoder: Any = getattr(model, "encoder", None)
    return encoder.horizon is not None if hasattr(encoder, "horizon") else unknown


@eqx.filter_jit
def log_policy(mdp: TabularMDP, model: Any, n_times: int) -> tuple[Float[Array, "t S A"], Float[Array, "t S A d"]]:
    """log π_t(a | s) and its gradient in the model's inexact arrays."""
    shape = (n_times, mdp.n_states, mdp.n_actions)
    time, state, action = (jnp.asarray(x.reshape(1, -1), jnp.int32) for x in np.indices(shape))
    zero, no = jnp.zeros(time.shape), jnp.zeros(time.shape, bool)
    obs = jnp.asarray(mdp.observation, jnp.int32)[state]
    rows = Trajectory(obs, action, zero, no, no, zero, time, time == 0, ~no, None, None)  # episodes of one step
    score = jax.vmap(as_vector)(gradient_samples(model, rows, jnp.ones(time.shape)))
    return jnp.asarray(unroll(model, rows)[0].log_prob).reshape(shape), score.reshape(*shape, -1)


@eqx.filter_jit
def all_values(mdp: TabularMDP, critic: Any, n_times: int) -> Float[Array, "t S"]:
    """V_t(s)."""
    time, state = (jnp.asarray(x, jnp.int32) for x in np.indices((n_times, mdp.n_states)))
    return values(critic, jnp.asarray(mdp.observation, jnp.int32)[state], time, None)


def edges(acting: Float[np.ndarray, "S A"], transition: Float[np.ndarray, "S A S"]) -> Bool[np.ndarray, "S S"]:
    """Which state can follow which."""
    return np.einsum("sa,sax->sx", acting, transition) > 0


def reached(edges: Bool[np.ndarray, "S S"], start: Bool[np.ndarray, "S"]) -> Bool[np.ndarray, "S"]:
    """All states that can be reached from those of ``start``, themselves included."""
    while np.any(new := (start @ edges) & ~start):
        start = start | new
    return start


def weights(process: Process, power: int) -> Weights:
    """μ(a | s)·ρ^power: what an action counts for in the expectation of something that ρ^power multiplies."""
    return process.acting * process.ratio**power


def baseline_of(process: Process, psi: Psi) -> Float[np.ndarray, "T S"]:
    """c(s) of a baseline that looks at one trajectory alone; zero for the others."""
    if psi.baseline == "value":
        return process.value
    return np.full(process.value.shape, float(np.reshape(psi.b, ())) if psi.baseline == "constant" else 0.0)


# Recursions


def solve(process: Process, weight: Weights, known: Float[np.ndarray, "T S ..."], decay: Any) -> np.ndarray:
    """x_t(s) = known_t(s) + Σ_a w_t(a | s)·decay·Σ_{s'} P(s' | s, a)·x_{t+1}(s'), with x_T = 0: ``[T, S, ...]``.

    ``decay`` is a number, or matrices ``[T, S, A, n, n]`` for an x of shape ``[n, m]``.
    """
    matrices, p = np.ndim(decay) > 0, process.transition
    if process.endless:
        each = decay[0] if matrices else np.full((*p.shape[:2], 1, 1), decay)
        kernel = np.einsum("sa,sax,saij->sixj", weight[0], p, each)
        size = math.isqrt(kernel.size)
        x = np.linalg.solve(np.eye(size) - kernel.reshape(size, size), known.reshape(size, -1))
        return x.reshape(known.shape)
    x = np.zeros_like(known)
    x[-1] = known[-1]
    for t in reversed(range(len(x) - 1)):
        if matrices:
            later = np.einsum("sa,sa...->s...", weight[t], decay[t] @ np.tensordot(p, x[t + 1], axes=1))
        else:
            later = decay * np.tensordot(np.einsum("sa,sax->sx", weight[t], p), x[t + 1], axes=1)
        x[t] = known[t] + later
    return x


def over_successors(p: Float[np.ndarray, "T ... S"], x: Float[np.ndarray, "T S ..."]) -> Float[np.ndarray, "T ..."]:
    """Σ_{s'} p_t(…, s')·x_t(s', …); a T of 1 stands for all times."""
    product = p.reshape(len(p), -1, p.shape[-1]) @ x.reshape(*x.shape[:2], -1)
    return product.reshape(len(product), *p.shape[1:-1], *x.shape[2:])


def following(process: Process, x: Float[np.ndarray, "T S ..."]) -> Float[np.ndarray, "T S ..."]:
    """x_{t+1} at row t: itself where the time does not matter, zero after the last step."""
    return x if process.endless else np.concatenate([x[1:], np.zeros_like(x[:1])])


def weight_to_come(process: Process, weight: Weights) -> Float[np.ndarray, "T S"]:
    """E[Π ρ^p] over the steps after x was reached; 1 where there are none, and 1 without importance weights."""
    over = over_successors(process.transition[None], 1 - process.goes_on)
    z = solve(process, weight, over_actions(weight, over), 1.0)
    return np.where(process.goes_on > 0, following(process, z), 1.0)


def at_start(process: Process, x: Float[np.ndarray, "T S ..."]) -> Any:
    """The expectation from the start of an episode."""
    return np.tensordot(process.initial, x[0], axes=1)


def over_actions(weight: Float[np.ndarray, "T S A ..."], x: Float[np.ndarray, "t S A ..."]) -> np.ndarray:
    """Σ_a w_t(a | s)·x_t(s, a), ``[T, S, ...]``: axes that both have of their own are multiplied out."""
    x = np.broadcast_to(x, (len(weight), *x.shape[1:]))
    return np.einsum("tsa...,tsa->ts...", x, weight) if weight.ndim == 3 else np.einsum("tsai,tsad->tsid", weight, x)


def inner(score: Float[np.ndarray, "t S A d"], x: Float[np.ndarray, "T S ... d"]) -> np.ndarray:
    """s_t(s, a)·x_t(s'), ``[T, S, A, S, ...]``."""
    products = score.reshape(len(score), -1, score.shape[-1]) @ x.reshape(len(x), -1, x.shape[-1]).mT
    return products.reshape(len(x), *score.shape[1:3], *x.shape[1:-1])


def square(score: Float[np.ndarray, "t S A d"]) -> Float[np.ndarray, "t S A"]:
    """‖s‖²."""
    return np.sum(score**2, axis=-1)


def outer(a: Float[np.ndarray, "... i"], b: Float[np.ndarray, "... j"]) -> Float[np.ndarray, "... i j"]:
    return a[..., :, None] * b[..., None, :]
