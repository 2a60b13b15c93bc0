"""Where the variance of the policy gradient comes from, and what a better baseline could take away of it.

One row's term is h(s, a, τ) = ∇log π(a | s)·(G − b(s)), G the return from a on, with s drawn from the states that the
policy visits. By the law of total variance, each a trace of a covariance,

    Var h = E_{s,a} Var_{τ|s,a}(h)   what happens after the action
          + E_s Var_{a|s}(E_τ h)     which action is drawn
          + Var_s(E_{a,τ} h)         which state it is

Tucker, Bhupatiraju, Gu, Turner, Ghahramani & Levine (2018), "The mirage of action-dependent baselines in reinforcement
learning", eq. 4 to 6.

**What a baseline changes.** Given s and a, b(s) is a constant, so Var_{τ|s,a}(h) = ‖∇log π(a|s)‖²·Var(G | s, a)
whatever b is. And E_a[∇log π(a|s)]·b(s) = 0, so E_{a,τ} h is the same too. Only the middle part changes, and in each
state it is a parabola in b: with g = ∇log π(a|s), Q = E[G | s, a] and q = E_a‖g‖²,

    Var_{a|s}(g·(Q − b)) = E_a[‖g‖²·(Q − b)²] − ‖E_a[g·Q]‖²,      least at b* = E_a[‖g‖²·Q] / q,

which lies (E_a[‖g‖²·(Q − b)])² / q below that of b. So the first and the last part are a floor for every baseline b(s),
and the first and the last part alone are what the best baseline b(s, a) with its correction would leave.

**The estimators** are those of a nested random-effects analysis of variance: n states, from each k actions, from each
of these m continuations, all independent. They are unbiased and never clipped: a small part may come out negative.
"""

import copy
from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from policygrad.collect.host import plain
from policygrad.collect.xla import CollectState, draw, fresh, play
from policygrad.envs.core import Stream
from policygrad.envs.worker import reason
from policygrad.ladder.names import in_range
from policygrad.measure.gather import ENTRIES, Projection, actor_alone
from policygrad.measure.statistics import Estimate, Linear, variance_of
from policygrad.models.actor_critic import initial_carry, is_memoryless
from policygrad.models.distributions import Categorical
from policygrad.spaces import from_env, masked, to_bounds, to_env, zeros
from policygrad.types import Input

FEWEST_STATES = 16
DRAWS = 64
"""Actions from which q = E_a‖∇log π‖² is taken where they cannot all be listed; 1/q is then off by about 1/DRAWS of the
squared relative spread of ‖∇log π‖²."""
ROWS = 2048
"""About so many gradients are in memory at once."""
SMALL = 0.1
"""A share of the variance that is not worth another baseline."""


class Part(NamedTuple):
    """One part of the variance."""

    variance: Estimate
    """In squared units of one row's gradient term; the interval is the jackknife's, over states."""
    share: Estimate
    """Of the total, by the delta method; without bounds where the total cannot be told from zero."""


class Parts(NamedTuple):
    """The variance of one row's term, and its three parts."""

    total: Estimate
    trajectory: Part
    """E_{s,a} Var_{τ|s,a}: what happens after the action. No baseline b(s) changes it."""
    action: Part
    """E_s Var_{a|s}: which action is drawn. All that a baseline b(s) can change."""
    state: Part
    """Var_s: which state it is. No baseline b(s) changes it."""


class Decomposition(NamedTuple):
    """Where the variance comes from."""

    plain: Parts
    """Without a baseline."""
    value: Parts | None
    """With V(s); None where there is no V."""
    removable: Part
    """What the best b(s) would still take away: of the variance with V, or, where there is no V, of that without."""
    best: Part
    """The action's part that the best b(s) leaves; its share is that of the same variance."""
    states: int
    actions: int
    continuations: int

    @property
    def verdict(self) -> str:
        """Whether a better baseline can help, in a sentence."""
        most = 100 * (self.plain if self.value is None else self.value).action.share.value  # no b(s) takes more
        low, high = (min(100 * x, most) for x in self.removable.share[2:])
        if high < 100 * SMALL:
            return f"no baseline b(s) can help much: the best takes away at most {high:.0f} % of the variance"
        if self.removable.variance.told_from_zero:
            return f"a better baseline can help: the best takes away {low:.0f} to {high:.0f} % of the variance"
        return "whether a better baseline can help cannot be told: give more states"


class Branches(NamedTuple):
    """n states, from each k actions, from each of these m returns."""

    input: Input
    """What the policy saw, ``[n, ...]``."""
    carry: PyTree[Array]
    """Its memory before that row, ``[n, ...]``."""
    action: PyTree[Array]
    """``[n, k, ...]``."""
    returns: Float[Array, "n k m"]
    """G = Σ_l γ^l r_{t+l} to the episode's end."""
    value: Float[Array, "n"]
    """V(s); zeros where there is no critic."""


def decompose(
    stream: Stream,
    model: Any,
    *,
    gamma: float,
    discounted: bool,
    states: int = 256,
    actions: int = 4,
    continuations: int = 4,
    critic: Any = None,
    seed: int = 0,
) -> Decomposition:
    """The three parts of the variance, in a pure environment.

    A state is a row of an episode of its own, drawn with probability ∝ γ^t (``discounted``) or alike for all rows that
    are visited. Its environment is kept, with the policy's memory. Episodes then go on as they are, to their end or
    time limit. Of a recurrent policy ∇log π is that of the row alone: the memory before it counts as given.

    Args:
        model: π, and V unless ``critic`` is given.
        gamma: γ of the returns.
        discounted: whether the objective keeps γ^t.
        states: n, at least 16.
        actions: k ≥ 2 from each state.
        continuations: m ≥ 2 from each action.
        critic: another model whose V is used; without memory.

    Raises:
        ValueError: too few of anything, no time limit, a critic with a memory of its own, or a variance of zero.
    """
    require(states, actions, continuations, gamma, critic)
    if stream.time_limit is None:
        raise ValueError("episodes are played to their end, so they need a time limit: give max_episode_steps")
    cumulated = jnp.asarray(cumulated_weights(gamma, discounted, stream.time_limit))
    visit_key, branch_key = jax.random.split(jax.random.key(seed))
    visited = visit(stream, model, cumulated, states, visit_key)
    return analyse(model, branch(stream, model, critic, gamma, visited, actions, continuations, branch_key), seed)


def require(states: int, actions: int, continuations: int, gamma: float, critic: Any) -> None:
    if states < FEWEST_STATES or actions < 2 or continuations < 2:
        raise ValueError(
            f"{states} states × {actions} actions × {continuations} continuations tell no variance: give at least "
            f"{FEWEST_STATES} states, 2 actions and 2 continuations"
        )
    in_range("gamma", gamma, 0, 1)
    if critic is not None and not is_memoryless(critic):
        raise ValueError(
            "a critic with a memory of its own cannot be followed here: give one without, or a model that holds both"
        )


def cumulated_weights(gamma: float, discounted: bool, limit: int) -> Float[np.ndarray, "limit"]:
    """P(time ≤ t) for a time that is drawn ∝ γ^t, or alike, below the limit."""
    weights = np.cumsum((gamma if discounted else 1.0) ** np.arange(limit, dtype=np.float64))
    return weights / weights[-1]


# States and what follows them, in pure environments


@eqx.filter_jit
def visit(stream: Stream, model: Any, cumulated: Float[Array, "T"], n: int, key: Array) -> CollectState:
    """n independent states s_t with probability ∝ w_t·P(s_t = s), by rejection.

    Each stream draws a time t ∝ w_t and plays an episode: if this is still running at t, its state is taken, otherwise
    both are drawn anew. A row of a finished episode instead, at random, would favour short episodes.
    """

    def times(key: Array) -> Array:
        return jnp.searchsorted(cumulated, jax.random.uniform(key, (n,), cumulated.dtype), side="right")

    def step(loop: tuple) -> tuple:
        key, state, wanted, kept, found = loop
        here = ~found & (state.stream.time == wanted)
        kept = jax.tree.map(lambda new, old: where(here, new, old), state, kept)
        key, play_key, time_key = jax.random.split(key, 3)
        state, row, _ = play(stream, model, state, first_of(draw(stream, model, state, play_key, (1, n))))
        return key, state, jnp.where(row.terminated | row.truncated, times(time_key), wanted), kept, found | here

    key, start_key, time_key = jax.random.split(key, 3)
    start = fresh(stream, model, n, start_key)
    loop = (key, start, times(time_key), start, jnp.zeros(n, bool))
    return jax.lax.while_loop(lambda loop: ~jnp.all(loop[-1]), step, loop)[3]


@eqx.filter_jit
def branch(
    stream: Stream, model: Any, critic: Any, gamma: float, state: CollectState, k: int, m: int, key: Array
) -> Branches:
    """From each state k actions of π, and from each of these m episodes to their end."""
    n = len(state.stream.time)
    actions, all_ = repeat(state, k), repeat(state, k * m)
    key, env_key, action_key = jax.random.split(key, 3)
    env_noise, _ = first_of(draw(stream, model, all_, env_key, (1, n * k * m)))
    _, action_noise = first_of(draw(stream, model, actions, action_key, (1, n * k)))
    following, first, _ = play(stream, model, all_, (env_noise, repeat(action_noise, m)))  # one action, m futures

    def step(loop: tuple) -> tuple:
        key, state, ret, weight, alive = loop
        key, play_key = jax.random.split(key)
        state, row, _ = play(stream, model, state, first_of(draw(stream, model, state, play_key, (1, n * k * m))))
        ret = ret + jnp.where(alive, weight * paid(model, row.reward), 0)
        return key, state, ret, weight * gamma, alive & ~(row.terminated | row.truncated)

    weight = jnp.asarray(gamma, first.reward.dtype)
    loop = (key, following, paid(model, first.reward), weight, ~(first.terminated | first.truncated))
    returns = jax.lax.while_loop(lambda loop: jnp.any(loop[-1]), step, loop)[2]
    input = Input(state.stream.obs, state.stream.time, state.stream.time == 0)
    action = jax.tree.map(lambda x: x.reshape(n, k, m, *x.shape[1:])[:, :, 0], first.action)
    return Branches(input, state.carry, action, returns.reshape(n, k, m), value_of(model, critic, input, state.carry))


def first_of(tree: PyTree[Any]) -> PyTree[Any]:
    return entry(tree, 0)


def entry(tree: PyTree[Any], i: Any) -> PyTree[Any]:
    return jax.tree.map(lambda x: x[i], tree)


def repeat(tree: PyTree[Any], n: int) -> PyTree[Any]:
    """Each entry n times, side by side."""
    return jax.tree.map(lambda x: x.repeat(n, axis=0), tree)


def where(flag: Array, new: Array, old: Array) -> Array:
    return jnp.where(flag.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def paid(model: Any, reward: Any) -> Any:
    """The reward on the scale of V."""
    normalizer = getattr(model, "normalizer", None)
    return reward if normalizer is None else normalizer.reward(reward)


def value_of(model: Any, critic: Any, input: Input, carry: Any) -> Float[Array, "n"]:
    if critic is None:
        return jax.vmap(lambda input, carry: model(input, carry)[0].value)(input, carry)
    return jax.vmap(lambda input: critic(input, None)[0].value)(input)


# The same in Gymnasium's environments, one at a time


def decompose_host(
    make_env: Callable[[], Any],
    model: Any,
    *,
    gamma: float,
    discounted: bool,
    states: int = 64,
    actions: int = 4,
    continuations: int = 4,
    critic: Any = None,
    clone: Callable[[Any], Any] = copy.deepcopy,
    show: Callable[..., Any] = plain,
    max_episode_steps: int | None = None,
    seed: int = 0,
) -> Decomposition:
    """:func:`decompose` where environments have to be copied in the middle of an episode.

    Args:
        make_env: makes one Gymnasium environment, its time limit included.
        model: π, and V unless ``critic`` is given.
        clone: env -> an independent copy of it as it is now. Copies are seeded anew through
            ``env.unwrapped.np_random``, so all the environment's randomness must come from there.
        show: what the policy sees, as in :class:`~policygrad.collect.host.HostCollector`.
        max_episode_steps: the environment's own time limit, where its ``spec`` does not tell.

    Raises:
        ValueError: as :func:`decompose`; an environment that cannot be copied, or whose copies do not play alike.
    """
    require(states, actions, continuations, gamma, critic)
    rng, rows = np.random.default_rng(seed), []
    with closing(make_env()) as env:
        limit = max_episode_steps or getattr(env.spec, "max_episode_steps", None)
        if limit is None:
            raise ValueError("the environment's time limit is not known: give max_episode_steps")
        cumulated = cumulated_weights(gamma, discounted, limit)
        player = Player(env, model, show, jax.random.key(seed))
        env.reset(seed=int(rng.integers(2**31)))
        for _ in range(states):
            now = visit_host(env, player, cumulated, rng)
            rows.append(branch_host(env, player, now, clone, gamma, actions, continuations, rng))
    input, carry, action, returns = jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *rows)
    value = eqx.filter_jit(value_of)(model, critic, input, carry)
    return analyse(model, Branches(input, carry, action, paid(model, returns), value), seed)


class Moment(NamedTuple):
    """What a policy knows in the middle of an episode, of B environments: ``[B, ...]``."""

    obs: PyTree[Any]
    time: Any
    action: PyTree[Any]
    """The last action, as the environment received it."""
    reward: Any
    carry: PyTree[Any]


class Player:
    """π in an environment's language, with its random numbers."""

    def __init__(self, env: Any, model: Any, show: Callable[..., Any], key: Array):
        self.model, self.space, self.action_space, self.key = model, env.observation_space, env.action_space, key

        def act(model: Any, now: Moment, key: Array) -> tuple:
            seen = show(now.obs, now.action, now.reward, now.time == 0)
            output, carry = jax.vmap(lambda obs, time, carry: model(Input(obs, time, time == 0), carry))(
                seen, now.time, now.carry
            )
            noise = first_of(output.distribution).draw(key, now.time.shape)
            return seen, jax.vmap(lambda d, noise: d.sample(noise))(output.distribution, noise), carry

        self._act = eqx.filter_jit(act)

    def act(self, now: Moment) -> tuple[Any, Any, Any]:
        """What π sees, the actions it draws, and its memory after that."""
        self.key, key = jax.random.split(self.key)
        return jax.tree.map(np.asarray, self._act(self.model, now, key))

    def begin(self, obs: Any) -> Moment:
        """The start of one episode."""
        nothing = jax.tree.map(lambda x: np.zeros((1, *x.shape), x.dtype), zeros(self.action_space))
        carry = jax.tree.map(np.asarray, initial_carry(self.model, (1,)))
        return Moment(self.seen([obs]), np.zeros(1, np.int32), nothing, np.zeros(1, np.float32), carry)

    def after(self, now: Moment, action: Any, carry: Any, obs: list[Any], reward: Any) -> Moment:
        """One step later."""
        received = jax.tree.map(np.asarray, to_bounds(self.action_space, action))
        return Moment(self.seen(obs), now.time + 1, received, np.asarray(reward, np.float32), carry)

    def seen(self, observations: list[Any]) -> Any:
        """What several environments show, as one batch of ours."""
        each = [masked(self.space, from_env(self.space, obs)) for obs in observations]
        return jax.tree.map(lambda *x: np.stack(x), *each)


def visit_host(env: Any, player: Player, cumulated: Float[np.ndarray, "T"], rng: np.random.Generator) -> Moment:
    """Leave ``env`` in a state that :func:`visit` would choose."""
    while True:
        now = player.begin(env.reset()[0])
        for _ in range(int(np.searchsorted(cumulated, rng.random(), side="right"))):
            _, action, carry = player.act(now)
            obs, reward, terminated, truncated, _ = env.step(entry(to_env(env.action_space, action), 0))
            if terminated or truncated:
                break
            now = player.after(now, action, carry, [obs], [reward])
        else:
            return now


def branch_host(
    env: Any,
    player: Player,
    now: Moment,
    clone: Callable[[Any], Any],
    gamma: float,
    k: int,
    m: int,
    rng: np.random.Generator,
) -> tuple[Input, Any, Any, Float[np.ndarray, "k m"]]:
    """One state's input and memory, k actions, and their returns."""
    seen, actions, carry = player.act(repeat(now, k))
    input = Input(first_of(seen), now.time[0], now.time[0] == 0)
    copies = copies_of(env, clone, entry(to_env(env.action_space, actions), 0), k * m, rng)
    ret, weight, alive = np.zeros(k * m), 1.0, np.ones(k * m, bool)
    shown: list[Any] = [None] * (k * m)
    moment, action, carry = repeat((repeat(now, k), actions, carry), m)
    while True:
        sent, reward = to_env(env.action_space, action), np.zeros(k * m)
        for i in np.flatnonzero(alive):
            shown[i], reward[i], terminated, truncated, _ = copies[i].step(entry(sent, i))
            alive[i] = not (terminated or truncated)
        ret, weight = ret + weight * reward, weight * gamma
        if not alive.any():
            return input, first_of(now.carry), actions, ret.reshape(k, m)
        moment = player.after(moment, action, carry, shown, reward)
        _, action, carry = player.act(moment)


def reseeded(env: Any, rng: np.random.Generator) -> Any:
    """A copy would otherwise see the same future as its original."""
    env.unwrapped.np_random = np.random.default_rng(rng.integers(2**63))
    return env


def copies_of(env: Any, clone: Callable[[Any], Any], action: Any, n: int, rng: np.random.Generator) -> list[Any]:
    """n copies of ``env`` as it is, which is then used up: it must go on as another copy does from the same seed, also
    when a third one has moved before."""
    name = type(env.unwrapped).__name__
    fix = (
        "give clone, a function env -> an independent copy (one that saves and restores the simulator's state), "
        "or measure a pure environment with decompose"
    )
    try:
        moved, witness, *copies = (clone(env) for _ in range(n + 2))
        reseeded(moved, rng).step(action)
        expected, found = (reseeded(e, np.random.default_rng(0)).step(action)[:4] for e in (env, witness))
    except Exception as error:
        raise ValueError(f"{name} cannot be copied in the middle of an episode ({reason(error)}): {fix}") from error
    if witness.unwrapped is env.unwrapped or not eqx.tree_equal(*jax.tree.map(np.asarray, (expected, found))):
        raise ValueError(
            f"a copy of {name} in the middle of an episode does not go on as the original does from the same seed; it "
            f"begins anew, shares its state, or takes random numbers from elsewhere than np_random: {fix}"
        )
    reseeded(env, rng)
    return [reseeded(copy, rng) for copy in copies]


# From branches to parts


def analyse(model: Any, branches: Branches, seed: int = 0) -> Decomposition:
    """All that is known of the branches: device work in one pass, then small arrays in float64."""
    returns, value = (np.asarray(x, np.float64) for x in (branches.returns, branches.value))
    n, k, m = returns.shape
    baselines = [np.zeros(n), value] if value.any() else [np.zeros(n)]
    weights = [(returns - b[:, None, None]).mean(axis=2) for b in baselines]
    actor = actor_alone(model)
    d = sum(x.size for x in jax.tree.leaves(eqx.filter(actor, eqx.is_inexact_array)))
    width = min(d, max(1024, ENTRIES // (n * len(weights))))
    project = None if width == d else Projection.make(d, width, seed)
    stacked = jnp.asarray(np.stack(weights, axis=1), branches.returns.dtype)
    scores = scores_of(actor, branches, stacked, jax.random.key(seed), project)
    gram, fisher, means = (np.asarray(x, np.float64) for x in scores)

    found = [sources(gram, returns - b[:, None, None], means[:, i]) for i, b in enumerate(baselines)]
    used = found[-1]
    total, action = used.total, used.action
    removable = mean_of(removable_by_state(gram, weights[-1], fisher))
    best = Linear(action.value - removable.value, action.influence - removable.influence)
    parts = [Parts(s.total.estimate, *(part_of(x, s.total) for x in (s.trajectory, s.action, s.state))) for s in found]
    return Decomposition(
        plain=parts[0],
        value=parts[1] if len(parts) == 2 else None,
        removable=part_of(removable, total),
        best=part_of(best, total),
        states=n,
        actions=k,
        continuations=m,
    )


@eqx.filter_jit
def scores_of(
    actor: Any, branches: Branches, weights: Float[Array, "n w k"], key: Array, project: Projection | None
) -> tuple[Float[Array, "n k k"], Float[Array, "n"], Float[Array, "n w p"]]:
    """Of the scores g_j = ∇log π(a_j|s) of each state: ⟨g_i, g_j⟩, q = E_a‖g‖², and (1/k) Σ_j w_j·g_j for each row of
    weights."""
    params, static = eqx.partition(actor, eqx.is_inexact_array)

    def one(args: tuple) -> tuple[Array, Array, Array]:
        input, carry, action, weights, key = args

        def log_prob(params: Any, action: Any) -> Array:
            return eqx.combine(params, static)(input, carry)[0].distribution.log_prob(action)

        def score(action: Any) -> Array:
            return ravel_pytree(jax.grad(log_prob)(params, action))[0]

        g = jax.vmap(score)(action)
        mean = weights @ g / len(g)
        every, probability = listed(actor(input, carry)[0].distribution, key)
        fisher = probability @ jax.lax.map(lambda a: jnp.sum(score(a) ** 2), every, batch_size=8)
        return g @ g.T, fisher, mean if project is None else project(mean)

    keys = jax.random.split(key, len(weights))
    at_once = max(1, ROWS // (weights.shape[-1] + 8))
    args = (branches.input, branches.carry, branches.action, weights, keys)
    return jax.lax.map(one, args, batch_size=min(at_once, len(weights)))


def listed(distribution: Any, key: Array) -> tuple[PyTree[Array], Float[Array, "a"]]:
    """All actions with their probabilities, where there are few; otherwise some that were drawn, alike."""
    if isinstance(distribution, Categorical) and distribution.logits.size <= DRAWS:
        return jnp.arange(distribution.logits.size), jax.nn.softmax(distribution.logits)
    drawn = jax.vmap(distribution.sample)(distribution.draw(key, (DRAWS,)))
    return drawn, jnp.full(DRAWS, 1 / DRAWS)


class Sources(NamedTuple):
    """The variance and its parts, with what each state contributes to them."""

    total: Linear
    trajectory: Linear
    action: Linear
    state: Linear


def sources(
    gram: Float[np.ndarray, "n k k"], psi: Float[np.ndarray, "n k m"], means: Float[np.ndarray, "n p"]
) -> Sources:
    """Unbiased estimates of the three parts, for x_ijl = g_ij·ψ_ijl.

        W_i = mean over j of ‖g_ij‖²·Var_l(ψ_ijl)       E W_i   = σ²_τ
        B_i = Σ_j ‖x̄_ij − x̄_i‖²/(k − 1)                 E B_i   = σ²_a + σ²_τ/m
        C   = Σ_i ‖x̄_i − x̄‖²/(n − 1)                    E C     = σ²_s + σ²_a/k + σ²_τ/(k·m)

    Searle, Casella & McCulloch (1992), "Variance components", §3.6. ``means``: x̄_i.
    """
    _, k, m = psi.shape
    mean = psi.mean(axis=2)
    within = (np.einsum("ijj->ij", gram) * psi.var(axis=2, ddof=1)).mean(axis=1)
    length = np.einsum("ij,ijl,il->i", mean, gram, mean) / k
    between = (np.einsum("ijj,ij->i", gram, mean**2) - length) / (k - 1)
    spread = variance_of(means)
    trajectory, action, inner = mean_of(within), mean_of(between - within / m), mean_of(between / k)
    state = Linear(spread.value - inner.value, spread.influence - inner.influence)
    return Sources(summed(trajectory, action, state), trajectory, action, state)


def removable_by_state(
    gram: Float[np.ndarray, "n k k"], mean: Float[np.ndarray, "n k"], fisher: Float[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    """(E_a[‖g‖²·(Q − b)])² / q in each state, without bias: the square is that of pairs of different actions."""
    k = mean.shape[1]
    c = np.einsum("ijj->ij", gram) * mean
    square = (c.sum(axis=1) ** 2 - (c**2).sum(axis=1)) / (k * (k - 1))
    return np.divide(square, fisher, out=np.zeros_like(square), where=fisher > 0)


def mean_of(x: Float[np.ndarray, "n"]) -> Linear:
    return Linear(float(x.mean()), x - x.mean())


def summed(*parts: Linear) -> Linear:
    return Linear(sum(part.value for part in parts), np.sum([part.influence for part in parts], axis=0))


def part_of(part: Linear, total: Linear) -> Part:
    if total.value <= 0:
        raise ValueError(
            "every return is the same, or no parameter changes the policy: there is no variance to take apart"
        )
    share = part.value / total.value
    estimate = Linear(share, (part.influence - share * total.influence) / total.value).estimate
    known = total.estimate.told_from_zero
    return Part(part.estimate, estimate if known else Estimate(share, np.inf, -np.inf, np.inf))
