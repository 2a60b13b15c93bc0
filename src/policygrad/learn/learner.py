"""From a trajectory to new parameters. A :class:`Learner` is five pure functions; it knows no collector and no
environment."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from policygrad.ladder.psi import CRITIC_TARGETS, Psi, standardize
from policygrad.ladder.recursion import masked_mean
from policygrad.learn.gradient import Clipped, average, steps_from, surrogate
from policygrad.learn.groups import gradient_groups
from policygrad.models.actor_critic import is_memoryless, rows_at_once, unroll
from policygrad.models.normalize import running_return
from policygrad.types import COLUMNS, Trajectory

OPTIMIZERS: Mapping[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": lambda eps: optax.identity(),
    "adam": lambda eps: optax.scale_by_adam(eps=eps),
    "rmsprop": lambda eps: optax.scale_by_rms(decay=0.99, eps=eps, eps_in_sqrt=False),
    "rmsprop-tf": lambda eps: optax.scale_by_rms(decay=0.99, eps=eps, initial_scale=1.0),
}
"""Directions only; the learning rate is a leaf of :class:`Hyper`. ``rmsprop-tf`` starts its average at one and adds ε
inside the root (Mnih et al. 2016)."""
MEASURED, NUMBERS = 64, 2**24
"""At most so many columns of a window are asked for a gradient of their own, of so many numbers all together."""


class Hyper(NamedTuple):
    """Numbers that sweep: leaves of the state."""

    learning_rate: Any
    ent_coef: Any
    vf_coef: Any
    max_grad_norm: Any
    """Bound of the global norm ‖g‖₂; inf for none."""


class LearnerState(NamedTuple):
    params: PyTree[Array]
    """The model's arrays."""
    target: PyTree[Array] | None
    """The target copy φ' of the critic, where there is one."""
    opt_state: PyTree[Array]
    psi: Psi
    kind: Any
    """The surrogate, with its ``clip_range`` or ``beta``."""
    hyper: Hyper
    gradient_steps: Int[Array, ""]
    """Gradient steps applied so far."""
    updates: Int[Array, ""]
    """Windows learned from so far."""
    rows: Int[Array, ""]
    """Valid rows learned from so far: environment steps."""
    ret: Float[Array, "B"] | None
    """Running discounted return of each stream, where rewards are normalised."""


class Batch(NamedTuple):
    """A trajectory with its weights: everything that the gradient needs, and constants all of it."""

    trajectory: Trajectory
    weights: Float[Array, "T B"]
    """Ψ_t."""
    returns: Float[Array, "T B"]
    """What the critic regresses on; V itself where there is no critic to train."""
    value: Float[Array, "T B"]
    """V(s_t) as it was before this update."""


class Learner(NamedTuple):
    """See :func:`make_learner`. ``update`` is made of the others; whoever applies gradients in another order, or
    elsewhere than they were computed, takes these."""

    init: Callable[[Array], LearnerState]
    weigh: Callable[[LearnerState, Trajectory], Batch]
    grad: Callable[[LearnerState, Batch, Array], tuple[PyTree, dict[str, Array]]]
    apply: Callable[[LearnerState, PyTree], LearnerState]
    step: Callable[[LearnerState, PyTree], tuple[Array, PyTree]]
    """``(state, grads) -> (Δθ as one flat vector, the optimiser's state after it)``: what ``apply`` adds."""
    renew: Callable[[LearnerState], LearnerState]
    """The target copy after a window's gradient steps."""
    observe: Callable[[LearnerState, Trajectory], LearnerState]
    """The normaliser's statistics, with a window's rows merged in."""
    measure: Callable[[LearnerState, Batch], dict[str, Array]]
    """What a log says about a window besides the metrics of ``grad``."""
    metrics: tuple[str, ...]
    """The names of both, sorted."""
    update: Callable[[LearnerState, Trajectory, Array], tuple[LearnerState, dict[str, Array]]]
    model: Callable[[LearnerState], Any]


def make_learner(
    make_model: Callable[[Array], Any],
    psi: Psi,
    *,
    kind: Any,
    hyper: Hyper,
    per: str = "trajectory",
    critic_target: str | None = None,
    target_copy: str = "none",
    target_every: int = 1,
    target_tau: float = 0.005,
    optimizer: str = "adam",
    opt_eps: float = 1e-8,
    schedule: Callable[[Array], Array] | None = None,
    n_epochs: int = 1,
    n_minibatches: int = 1,
    normalize_advantage: bool = False,
    target_kl: float | None = None,
    n_streams: int | None = None,
    gradient_rows: int | None = None,
    target_entropy: float | None = None,
    alpha_rate: float = 3e-3,
    measure_every: int = 0,
    axis: str | None = None,
) -> Learner:
    """The learner of one preset.

    The loss is −surrogate − ent_coef·H + vf_coef·mean (V − returns)²: the entropy of each row is averaged as the
    surrogate is, the square over rows, without a factor ½. Actor and critic take one joint step, and the
    advantages use V as it was before.

    Args:
        make_model: key ↦ model.
        psi: the weight of ∇log π(a_t).
        kind: the surrogate: ``Score()``, ``Ratio()``, ``Clipped(clip_range)``, ``KLPenalty(beta)``.
        per: ``trajectory`` or ``step``: what the policy's sums are divided by.
        critic_target: what V regresses on, one of ``CRITIC_TARGETS``; None: no critic is trained.
        target_copy: ``none``; ``periodic``: φ' ← φ every ``target_every`` updates; ``polyak``: φ' ← φ' +
            ``target_tau``·(φ − φ') after each. The critic's targets are computed with φ'.
        schedule: factor of the learning rate as a function of the environment steps learned from so far.
        n_epochs, n_minibatches: passes over a window and its division. Memoryless models with ``per="step"`` shuffle
        rows; all others shuffle whole columns.
        normalize_advantage: standardise Ψ in each minibatch (PPO's habit; ``Psi.standardize`` does it once per window).
        target_kl: skip the rest of a window's gradient steps once a minibatch's approximate KL exceeds 1.5·target_kl.
        n_streams: number of columns of a window; needed where rewards are normalised.
        gradient_rows: at most so many rows at a time in a gradient, whose parts are then added up: with pictures it
            stays in the processor's cache. Only for memoryless models with ``per="step"``. None: all at once, but as
            :func:`~policygrad.models.actor_critic.rows_at_once` says where there are pictures.
        target_entropy: steer the temperature α of ``psi`` so that the policy's mean entropy is this, in nats a step;
            None: α stays as it is.
        alpha_rate: how fast: log α moves by ``alpha_rate`` for each nat that is missing, after each update.
        measure_every: every so many updates the metrics of ``update`` hold :func:`noise_sums`, else zeros; 0: never.
            Nothing that is learned depends on it.
        axis: the name of the axis of a ``vmap`` around ``update``: updates that nobody measures then cost nothing.
    """
    template = eqx.filter_eval_shape(make_model, jax.random.key(0))
    is_array = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)  # noqa: E731
    static = eqx.partition(template, is_array)[1]
    refuse_integers(eqx.filter(template, is_array))
    transform = OPTIMIZERS[optimizer](opt_eps)
    n_steps = n_epochs * n_minibatches
    stale = n_steps > 1 or "log_rho" in psi.needs  # otherwise the only step is taken at π = μ, with divergence zero
    by_rows = per == "step" and is_memoryless(template)
    gradient_rows = rows_at_once(template) if gradient_rows is None else gradient_rows

    def combine(params: PyTree) -> Any:
        return eqx.combine(params, static)

    def init(key: Array) -> LearnerState:
        params = eqx.filter(make_model(key), eqx.is_array)
        target = None if target_copy == "none" else jax.tree.map(jnp.copy, params)
        zero = jnp.zeros((), jnp.int32)
        normalizer = getattr(combine(params), "normalizer", None)
        ret = jnp.zeros(n_streams) if normalizer is not None and normalizer.ret is not None else None
        numbers = jax.tree.map(jnp.asarray, (psi, kind, hyper))
        opt_state = transform.init(ravel_pytree(params)[0])
        return LearnerState(params, target, opt_state, numbers[0], numbers[1], numbers[2], zero, zero, zero, ret)

    def weigh(state: LearnerState, trajectory: Trajectory) -> Batch:
        model = combine(state.params)
        steps = steps_from(model, trajectory, state.psi)
        if critic_target is None:
            returns = steps.value
        else:
            with_target = (
                steps
                if state.target is None
                else steps_from(model, trajectory, state.psi, critic=combine(state.target))
            )
            returns = CRITIC_TARGETS[critic_target](with_target, state.psi)
        return Batch(trajectory, state.psi(steps), returns, steps.value)

    def loss(params: PyTree, state: LearnerState, batch: Batch) -> tuple[Array, dict[str, Array]]:
        trajectory, mask = batch.trajectory, batch.trajectory.mask
        output, _ = unroll(combine(params), trajectory)
        objective = surrogate(output.log_prob, trajectory.log_mu, batch.weights, mask, kind=state.kind, per=per)
        entropy = jax.vmap(lambda d: d.entropy())(flatten(output.distribution, mask.ndim)).reshape(mask.shape)
        value_loss = masked_mean((output.value - batch.returns) ** 2, mask)
        total = -objective - state.hyper.ent_coef * average(entropy, mask, per)
        if critic_target is not None:
            total = total + state.hyper.vf_coef * value_loss
        metrics = {"policy_loss": -objective, "entropy": masked_mean(entropy, mask)}
        if critic_target is not None:
            metrics["value_loss"] = value_loss
        if stale:
            log_rho = output.log_prob - trajectory.log_mu
            metrics["approx_kl"] = masked_mean(jnp.expm1(log_rho) - log_rho, mask)
        if stale and isinstance(state.kind, Clipped):
            metrics["clip_fraction"] = masked_mean(
                (jnp.abs(jnp.expm1(log_rho)) > state.kind.clip_range).astype(log_rho.dtype), mask
            )
        return total, metrics

    def grad(state: LearnerState, batch: Batch, key: Array) -> tuple[PyTree, dict[str, Array]]:
        """The gradient of the loss (downhill). ``key`` is unused by the built-in losses: a stochastic one may want
        it."""
        if normalize_advantage:
            batch = batch._replace(weights=standardize(batch.weights, batch.trajectory.mask))
        derive = jax.grad(loss, has_aux=True)
        if by_rows and gradient_rows is not None and batch.weights.size > gradient_rows:
            grads, metrics = added_up(lambda part: derive(state.params, state, part), parts_of(batch, gradient_rows))
        else:
            grads, metrics = derive(state.params, state, batch)
        flat, _ = ravel_pytree(grads)
        return grads, metrics | {"grad_norm": jnp.sqrt(flat @ flat)}

    def rate(state: LearnerState) -> Array:
        return state.hyper.learning_rate * (1.0 if schedule is None else schedule(state.rows))

    def step(state: LearnerState, grads: PyTree) -> tuple[Array, PyTree]:
        """All arrays are handled as one flat vector: dozens of small operations become a few."""
        flat, _ = ravel_pytree(grads)
        norm = jnp.sqrt(flat @ flat)
        flat = flat * jnp.minimum(1.0, state.hyper.max_grad_norm / (norm + 1e-6))
        direction, opt_state = transform.update(flat, state.opt_state)
        return -rate(state) * direction, opt_state

    def apply(state: LearnerState, grads: PyTree) -> LearnerState:
        """One optimiser step."""
        delta, opt_state = step(state, grads)
        _, unflatten = ravel_pytree(state.params)
        params = jax.tree.map(jnp.add, state.params, unflatten(delta))
        return state._replace(params=params, opt_state=opt_state, gradient_steps=state.gradient_steps + 1)

    def once(state: LearnerState, batch: Batch, key: Array) -> tuple[LearnerState, dict[str, Array]]:
        grads, metrics = grad(state, batch, key)
        return apply(state, grads), metrics

    def passes(state: LearnerState, batch: Batch, key: Array) -> tuple[LearnerState, dict[str, Array]]:
        """Epochs × minibatches over one window."""

        def one(carry: tuple[LearnerState, Array], inputs: tuple[Batch, Array]) -> tuple[Any, dict[str, Array]]:
            state, stop = carry
            minibatch, key = inputs
            grads, metrics = grad(state, minibatch, key)
            if target_kl is None:
                return (apply(state, grads), stop), metrics
            stop = stop | (metrics["approx_kl"] > 1.5 * target_kl)
            state = jax.tree.map(lambda old, new: jnp.where(stop, old, new), state, apply(state, grads))
            return (state, stop), metrics | {"stopped": stop.astype(batch.weights.dtype)}

        def epoch(carry: Any, key: Array) -> tuple[Any, dict[str, Array]]:
            shuffle_key, *keys = jax.random.split(key, 1 + n_minibatches)
            return jax.lax.scan(one, carry, (minibatches(batch, n_minibatches, by_rows, shuffle_key), jnp.stack(keys)))

        (state, _), metrics = jax.lax.scan(epoch, (state, jnp.zeros((), bool)), jax.random.split(key, n_epochs))
        return state, jax.tree.map(jnp.mean, metrics)

    def update(state: LearnerState, trajectory: Trajectory, key: Array) -> tuple[LearnerState, dict[str, Array]]:
        batch = weigh(state, trajectory)
        new, metrics = (once if n_steps == 1 else passes)(state, batch, key)
        metrics |= measure(state, batch)
        if target_entropy is not None:
            metrics |= {"alpha": state.psi.alpha}
            new = new._replace(psi=tempered(new.psi, metrics["entropy"], target_entropy, alpha_rate))
        if measure_every:
            metrics |= now_and_then(state, batch)
        rows = state.rows + jnp.sum(trajectory.mask, dtype=jnp.int32)
        new = renew(new._replace(updates=state.updates + 1, rows=rows))
        return observe(new, trajectory), metrics

    def now_and_then(state: LearnerState, batch: Batch) -> dict[str, Array]:
        """:func:`noise_sums` at every K-th update, zeros at the others."""
        due = state.updates % measure_every == 0
        anyone = due if axis is None else jax.lax.pmax(due, axis)  # one flag for all seeds, or both branches would run
        look = lambda: noise_sums(combine(state.params), batch)  # noqa: E731
        zeros = lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(look))  # noqa: E731
        return jax.tree.map(lambda x: jnp.where(due, x, 0), jax.lax.cond(anyone, look, zeros))

    def measure(state: LearnerState, batch: Batch) -> dict[str, Array]:
        mask, learning_rate = batch.trajectory.mask, {"learning_rate": rate(state)}
        if critic_target is None:
            return learning_rate
        residual, spread = batch.returns - batch.value, batch.returns - masked_mean(batch.returns, mask)
        unexplained = masked_mean((residual - masked_mean(residual, mask)) ** 2, mask)
        explained = 1 - unexplained / jnp.maximum(masked_mean(spread**2, mask), 1e-8)
        return {"explained_variance": explained} | learning_rate

    def renew(state: LearnerState) -> LearnerState:
        if target_copy == "none":
            return state
        if target_copy == "periodic":
            due = state.updates % target_every == 0
            renewed = jax.tree.map(lambda old, new: jnp.where(due, new, old), state.target, state.params)
        else:
            renewed = jax.tree.map(lambda old, new: mix(old, new, target_tau), state.target, state.params)
        return state._replace(target=renewed)

    def observe(state: LearnerState, trajectory: Trajectory) -> LearnerState:
        normalizer = getattr(combine(state.params), "normalizer", None)
        if normalizer is None:
            return state
        obs, ret = normalizer.obs, normalizer.ret
        returns: Any = state.ret
        if obs is not None:
            obs = obs.update(trajectory.obs, trajectory.mask)
        if ret is not None:
            over = trajectory.terminated | trajectory.truncated | ~trajectory.mask
            returns, seen = running_return(
                returns, jnp.where(trajectory.mask, trajectory.reward, 0), over, state.psi.gamma
            )
            ret = ret.update(seen, trajectory.mask)
        params = eqx.tree_at(
            lambda p: (p.normalizer.obs, p.normalizer.ret), state.params, (obs, ret), is_leaf=lambda x: x is None
        )
        return state._replace(params=params, ret=returns)

    names = ["policy_loss", "entropy", "grad_norm", "learning_rate"]
    names += ["value_loss", "explained_variance"] if critic_target is not None else []
    names += ["alpha"] if target_entropy is not None else []
    names += ["approx_kl"] if stale else []
    names += ["clip_fraction"] if stale and isinstance(kind, Clipped) else []
    metrics = tuple(sorted(names))
    return Learner(
        init, weigh, grad, apply, step, renew, observe, measure, metrics, update, lambda state: combine(state.params)
    )


def tempered(psi: Psi, entropy: Float[Array, ""], target_entropy: float, rate: float) -> Psi:
    """log α ← log α + rate·(H̄ − H): the temperature rises while the policy's mean entropy H, in nats a step, is below
    its target H̄, and falls while it is above.

    Ascent of the dual of max E[Σ_t r_t] subject to E[−log π(a_t)] ≥ H̄. Haarnoja et al. (2018), "Soft actor-critic
    algorithms and applications", eq. 18, there with the gradient in log α.
    """
    alpha = psi.alpha * jnp.exp(rate * (target_entropy - entropy)).astype(psi.alpha.dtype)
    return eqx.tree_at(lambda p: p.alpha, psi, alpha)


def noise_sums(model: Any, batch: Batch) -> dict[str, Array]:
    """What the noise of a window's policy gradient is computed from. The columns' own gradients g_i = Σ_t ∇log π·Ψ give
    with their products g_i·g_j, for n columns, without bias

        ‖E g‖²   ≈  U     = Σ_{i≠j} g_i·g_j / (n(n − 1))
        tr Cov g ≈  D − U,   D = Σ_i ‖g_i‖² / n

    (McCandlish et al. 2018, "An empirical model of large-batch training", appendix A). Over some updates, with B
    columns in a window, the sums of B·U and of D − U have as ratio the window's signal-to-noise ratio. Of many
    columns, or of large models, the first ones stand for all.

    Returns:
        Sums over this one update, in squared units of the gradient: ``measure/updates`` = 1, ``measure/columns`` = B,
        ``measure/signal`` = B·U, ``measure/spread`` = D − U, and ``measure/cosine``, the mean of cos(g_i, g_j).
    """
    n_columns = batch.weights.shape[1]
    size = sum(x.size for x in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
    n = min(n_columns, max(2, min(MEASURED, NUMBERS // size)))
    trajectory, weights = jax.tree.map(
        lambda axis, leaf: jax.tree.map(lambda x: jax.lax.slice_in_dim(x, 0, n, axis=axis), leaf),
        (COLUMNS, 1),
        (batch.trajectory, batch.weights),
    )
    g = gradient_groups(model, trajectory, weights[None], n)[0]
    products = g @ g.T
    squares = jnp.diagonal(products)
    lengths = jnp.sqrt(jnp.maximum(squares, jnp.finfo(g.dtype).tiny))
    between = lambda x: (jnp.sum(x) - jnp.trace(x)) / (n * (n - 1))  # noqa: E731
    norm, one = between(products), jnp.ones((), g.dtype)
    return {
        "measure/updates": one,
        "measure/columns": n_columns * one,
        "measure/signal": n_columns * norm,
        "measure/spread": jnp.mean(squares) - norm,
        "measure/cosine": between(products / jnp.outer(lengths, lengths)),
    }


def refuse_integers(params: PyTree) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            name = jax.tree_util.keystr(path)
            raise ValueError(
                f"the model's array {name} has dtype {leaf.dtype} and cannot be trained: "
                "make it a float, a NumPy array or a static field"
            )


def mix(old: Array, new: Array, tau: float) -> Array:
    return old + tau * (new - old) if jnp.issubdtype(old.dtype, jnp.inexact) else new


def flatten(tree: PyTree, axes: int) -> PyTree:
    """The first ``axes`` axes of every leaf as one."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[axes:]), tree)


def minibatches(batch: Batch, n: int, by_rows: bool, key: Array) -> Batch:
    """A shuffled batch in ``n`` parts, stacked: leaves ``[n, ...]``. By rows each part is ``[1, T·B/n]``, otherwise
    ``[T, B/n]``; what does not divide is left out."""
    columns = Batch(COLUMNS, 1, 1, 1)  # type: ignore[arg-type]
    if by_rows:
        batch = batch._replace(trajectory=batch.trajectory._replace(cut_obs=None, carry=None))
        batch = jax.tree.map(lambda x: x.reshape(1, -1, *x.shape[2:]), batch)
    size = batch.weights.shape[1] // n
    order = permutation(key, batch.weights.shape[1])[: n * size]

    def split(axis: int, leaf: PyTree) -> PyTree:
        def one(x: Array) -> Array:
            x = jnp.take(x, order, axis=axis)
            return jnp.moveaxis(x.reshape(*x.shape[:axis], n, size, *x.shape[axis + 1 :]), axis, 0)

        return jax.tree.map(one, leaf)

    return jax.tree.map(split, columns, batch)


def parts_of(batch: Batch, rows: int) -> Batch:
    """A batch in equal parts of at most ``rows`` rows, stacked: leaves ``[n, 1, T·B/n]``."""
    batch = batch._replace(trajectory=batch.trajectory._replace(cut_obs=None, carry=None))
    size = batch.weights.size
    n = next(n for n in range(-(-size // rows), size + 1) if size % n == 0)
    return jax.tree.map(lambda x: x.reshape(n, 1, -1, *x.shape[2:]), batch)


def added_up(function: Callable[[Batch], PyTree], parts: Batch) -> PyTree:
    """What ``function`` gives for the whole batch, if it is a mean over valid rows: the parts' means, each with its
    share of the rows."""
    count = jnp.maximum(jnp.sum(parts.trajectory.mask), 1)
    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, jax.tree.map(lambda x: x[0], parts))
    )

    def add(total: PyTree, part: Batch) -> tuple[PyTree, None]:
        share = jnp.sum(part.trajectory.mask) / count
        return jax.tree.map(lambda t, x: t + share * x, total, function(part)), None

    return jax.lax.scan(add, zeros, parts)[0]


def permutation(key: Array, n: int) -> Int[Array, "n"]:
    """A random order of n indices. Up to 4096 by one sort of (random bits, index) packed into a word, five times
    faster than sorting pairs."""
    if n > 4096:
        return jax.random.permutation(key, n)
    bits = max(1, (n - 1).bit_length())
    words = (jax.random.bits(key, (n,), jnp.uint32) << bits) | jnp.arange(n, dtype=jnp.uint32)
    return (jnp.sort(words) & ((1 << bits) - 1)).astype(jnp.int32)
