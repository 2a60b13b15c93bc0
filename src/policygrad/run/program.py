"""From a recipe to the pure functions of a run: one state, one step.

The whole state of a run is one pytree: saving it is resuming, ``vmap`` over it is many seeds (and settings) at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, PyTree

from policygrad.collect.dataset import dataset_collector
from policygrad.collect.xla import Collector, episode_collector, window_collector
from policygrad.envs.core import Env, Stream, autoreset
from policygrad.envs.memory import remember
from policygrad.learn.gradient import Clipped, KLPenalty, Ratio, Score
from policygrad.learn.learner import Hyper, Learner, LearnerState, make_learner
from policygrad.models.actor_critic import make_model
from policygrad.random import standard, unrolled
from policygrad.run.devices import is_small, shares
from policygrad.run.evaluate import episode_returns
from policygrad.run.recipes import Recipe, RecipeError
from policygrad.spaces import parts
from policygrad.types import Finished, Trajectory

SEEDS = "seeds"
"""The axis of seeds that are computed together."""
QUICK = {"xla_backend_optimization_level": 0}
"""How a program that runs once is compiled: three times faster."""
ONE_THREAD = {"xla_cpu_multi_thread_eigen": False}
"""For small windows: their matrix products are too small to be handed around."""


class RunState(NamedTuple):
    """Everything that a run is, between two updates."""

    learner: LearnerState
    collector: PyTree[Array]
    key: Array
    env_steps: Int[Array, ""]
    """Environment steps learned from so far."""
    first_bad: Int[Array, ""]
    """Environment steps before the first update with a non-finite reward or gradient; −1: there was none."""


Stats = dict[str, Array]
"""Sums over updates, kept as one vector while they add up; :func:`means` divides them."""


@dataclass(frozen=True)
class Program:
    """A recipe made executable for ``seeds`` seeds: with more than one, every leaf of the state has a leading axis."""

    recipe: Recipe
    groups: int
    """Groups of seeds, each computed together."""
    raw_env: Env
    """The environment as it was given."""
    env: Env
    """The environment as the policy sees it: with its memory, where it remembers."""
    stream: Stream
    learner: Learner
    collector: Collector
    init: Callable[[Array], RunState]
    """``key(s) -> state``."""
    advance: Callable[[RunState, Array], tuple[RunState, Stats]]
    """``(state, steps) -> state``: update until every seed has learned from at least ``steps`` environment steps."""
    judge: Callable[[LearnerState, Array, Array], Array]
    """``(learner, key(s), steps) -> mean return(s)`` of greedy episodes, on random numbers of their own."""
    starting: float = 0.0
    """Seconds of compiling that are known; here the first update compiles, and nobody can tell."""

    def model(self, state: RunState, seed: int = 0) -> Any:
        """The model of one seed, on one device."""
        return self.learner.model(one_seed(self.recipe, state.learner, seed))

    def like(self, keys: Array) -> RunState:
        """The shapes of every state."""
        return jax.eval_shape(self.init, keys)

    def saved(self, state: RunState) -> RunState:
        """What a file can hold of a state: here, all of it."""
        return state

    def shares(self) -> dict[str, float]:
        """What a log row says about where the time went: in one XLA program nobody knows."""
        return {}

    def close(self) -> None:
        """Nothing outside this process is held."""


def make_program(recipe: Recipe, env: Env, model: Any = None, *, groups: int | None = None) -> Program:
    """The program of a recipe.

    Args:
        env: a pure environment (the recipe's, made).
        model: an ``eqx.Module`` to start from, or a function ``key -> eqx.Module``; None: as the recipe says.
        groups: in how many equal groups seeds are computed; None: one for each device. It decides how sums are rounded.

    Raises:
        RecipeError, ValueError: options, spaces or a model that do not fit.
    """
    horizon = getattr(env, "horizon", None) if recipe.max_episode_steps is None else None
    raw_env, env = env, remember(env) if recipe.remembers else env
    limit = env.time_limit or horizon if recipe.max_episode_steps is None else recipe.max_episode_steps
    stream = autoreset(env, limit, finite_horizon=recipe.time_to_go and horizon is None)
    groups = shares(recipe.seeds, len(jax.devices())) if groups is None else groups
    make = model_maker(recipe, env, horizon or stream.time_limit, model)
    learner = learner_of(recipe, make, axis=SEEDS if recipe.seeds > 1 else None)
    if recipe.collect == "dataset":
        collector = dataset_collector(None, recipe.n_envs)  # run/offpolicy.py brings the data
    elif recipe.collect == "episodes":
        if stream.time_limit is None:
            raise RecipeError(
                f"{recipe.algo} learns from whole episodes and {recipe.env} has no time limit: "
                "set max_episode_steps, or choose a2c"
            )
        collector = episode_collector(stream, recipe.n_envs)
    else:
        collector = window_collector(stream, recipe.n_envs, recipe.n_steps)
    init, update = initializer(learner, collector), updater(learner, collector, clip_reward=recipe.clip_reward)
    if recipe.seeds > 1:
        init, update = jax.vmap(init), jax.vmap(update, axis_name=SEEDS)
    advance = advancer(update, freeze=recipe.collect == "episodes")
    return Program(
        recipe,
        groups,
        raw_env,
        env,
        stream,
        learner,
        collector,
        compiled(init, groups, P("seed"), options=QUICK),
        compiled(advance, groups, P("seed"), P(), options=ONE_THREAD if is_small(recipe) else {}),
        compiled(evaluator(recipe, learner, stream), groups, *[P("seed")] * 3, options={}),
    )


def compiled(function: Callable, groups: int, *specs: P, options: dict[str, Any]) -> Callable:
    """A function of some seeds as an XLA program of all of them. Where there are devices enough, each computes one
    group of the seeds with no word to the others; otherwise the groups take turns, with the same numbers.

    Args:
        specs: for each argument ``P("seed")`` (a leading axis of seeds in every leaf) or ``P()`` (the same for all).
            Every leaf of the result has the axis.
    """
    if groups == 1:
        return jax.jit(function, compiler_options=options)
    if groups > len(jax.devices()):
        return jax.jit(in_turn(function, groups, specs), compiler_options=options)
    mesh = Mesh(np.array(jax.devices()[:groups]), ("seed",))
    placed = tuple(NamedSharding(mesh, spec) for spec in specs)
    shared = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=P("seed"), check_vma=False)
    return jax.jit(shared, in_shardings=placed, compiler_options=options)


def in_turn(function: Callable, groups: int, specs: tuple[P, ...]) -> Callable:
    """``function`` of each group of seeds, one after another."""

    def every(*args: Any) -> Any:
        split = lambda x: x.reshape(groups, -1, *x.shape[1:])  # noqa: E731
        seeded = [jax.tree.map(split, arg) for arg, spec in zip(args, specs) if spec == P("seed")]

        def group(mine: list[Any]) -> Any:
            rest = iter(mine)
            return function(*(next(rest) if spec == P("seed") else arg for arg, spec in zip(args, specs)))

        results = jax.lax.map(group, seeded)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), results)

    return every


def one_seed(recipe: Recipe, tree: PyTree, seed: int) -> PyTree:
    """One seed's share of a state, or of a part of it, on the first device."""
    if recipe.seeds == 1:
        return tree
    return jax.tree.map(lambda x: jax.device_put(x[seed], jax.devices()[0]), tree)


def model_maker(
    recipe: Recipe, env: Env, horizon: int | None, model: Any, *, looped: bool = True
) -> Callable[[Array], Any]:
    """``key -> model``. ``horizon`` is the T of a time-to-go policy; ``looped``: it plays or learns inside an XLA
    loop."""
    check_target_entropy(recipe, env)
    if isinstance(model, eqx.Module):
        return lambda key: model
    if model is not None:
        return model
    if recipe.time_to_go and horizon is None:
        raise RecipeError(
            f"time_to_go needs a horizon and {recipe.env} has no time limit: set max_episode_steps, or drop time_to_go"
        )
    return lambda key: make_model(
        env.observation_space,
        env.action_space,
        key=key,
        policy=recipe.policy,
        net=recipe.net,
        activation=recipe.activation,
        cnn=recipe.cnn,
        frames=recipe.frames,
        shared_torso=recipe.shared_torso,
        critic=recipe.critic_target is not None,
        horizon=horizon if recipe.time_to_go else None,
        bounds=recipe.bounds,
        gsde=recipe.gsde,
        log_std_init=recipe.log_std_init,
        state_dependent_std=recipe.state_dependent_std,
        normalize_obs=recipe.normalize_obs,
        normalize_reward=recipe.normalize_reward,
        looped=looped,
    )


def check_target_entropy(recipe: Recipe, env: Env) -> None:
    """Refuse an entropy that no policy of these actions has: the temperature would rise for ever, or fall."""
    sizes = [getattr(part, "n", None) for part in parts(env.action_space)]
    if recipe.target_entropy is None or not all(isinstance(n, int | np.integer) for n in sizes):
        return
    most = float(np.sum(np.log(np.array(sizes, float))))
    if not 0 < recipe.target_entropy < most:
        raise RecipeError(
            f"target_entropy={recipe.target_entropy:g} is out of reach: the entropy of a policy of {recipe.env} is "
            f"between 0 and {most:.3g} nats; choose one inside, such as {most / 2:.2g}"
        )


def learner_of(recipe: Recipe, make: Callable[[Array], Any], *, axis: str | None = None) -> Learner:
    """The learner of a recipe. ``axis`` names the seeds' axis, where they are updated together."""
    r = recipe
    kinds = {"score": Score(), "ratio": Ratio(), "clipped": Clipped(r.clip_range), "kl-penalty": KLPenalty(r.kl_coef)}
    schedule = (lambda rows: jnp.maximum(0.0, 1 - rows / r.total_timesteps)) if r.lr_schedule == "linear" else None
    return make_learner(
        make,
        r.psi,
        kind=kinds[r.surrogate],
        hyper=Hyper(r.learning_rate, r.ent_coef, r.vf_coef, jnp.inf if r.max_grad_norm is None else r.max_grad_norm),
        per=r.per,
        critic_target=r.critic_target,
        target_copy=r.target_copy,
        target_every=r.target_every,
        target_tau=r.target_tau,
        optimizer=r.optimizer,
        opt_eps=r.opt_eps,
        schedule=schedule,
        n_epochs=r.n_epochs,
        n_minibatches=r.n_minibatches,
        normalize_advantage=r.normalize_advantage,
        target_kl=r.target_kl,
        n_streams=r.n_envs,
        gradient_rows=r.gradient_rows,
        target_entropy=r.target_entropy,
        alpha_rate=r.alpha_rate,
        measure_every=r.measure_every,
        axis=axis,
    )


def initializer(learner: Learner, collector: Collector) -> Callable[[Array], RunState]:
    def init(key: Array) -> RunState:
        model_key, collect_key, key = jax.random.split(key, 3)
        state = learner.init(model_key)
        collected = collector.init(learner.model(state), collect_key)
        counters = jnp.zeros((), jnp.int32), jnp.full((), -1, jnp.int32)
        return jax.tree.map(settled, RunState(state, collected, key, *counters))

    return init


def settled(x: Array) -> Array:
    """With a dtype for good. An environment's first state may hold Python numbers, whose dtype JAX calls weak; those of
    later states are not, and the program would be compiled for them again."""
    return jax.lax.convert_element_type(x, x.dtype) if getattr(x, "weak_type", False) else x


def updater(
    learner: Learner, collector: Collector, *, clip_reward: bool = False
) -> Callable[[RunState], tuple[RunState, Stats]]:
    """Collect a window, learn from it (of the rewards' signs alone, if they are clipped): where learner and collector
    meet."""

    def update(state: RunState) -> tuple[RunState, Stats]:
        key, collect_key, learn_key = jax.random.split(unrolled(state.key), 3)
        collected, trajectory, finished = collector.collect(learner.model(state.learner), state.collector, collect_key)
        if clip_reward:
            trajectory = trajectory._replace(reward=jnp.sign(trajectory.reward))
        learned, metrics = learner.update(state.learner, trajectory, learn_key)
        finite = jnp.isfinite(jnp.sum(trajectory.reward)) & jnp.isfinite(metrics["grad_norm"])
        first_bad = jnp.where(finite | (state.first_bad >= 0), state.first_bad, state.env_steps)
        env_steps = state.env_steps + jnp.sum(trajectory.mask, dtype=jnp.int32)
        return RunState(learned, collected, standard(key), env_steps, first_bad), stats_of(
            metrics, trajectory, finished
        )

    return update


def stats_of(metrics: dict[str, Array], trajectory: Trajectory, finished: Finished) -> Stats:
    total = lambda x: jnp.sum(jnp.where(finished.done, x, 0.0))  # noqa: E731
    rollout = {
        "ret": total(finished.ret),
        "length": total(finished.length),
        "episodes": total(1.0),
        "truncated": total(trajectory.truncated & ~trajectory.terminated),
        "updates": jnp.ones(()),
    }
    return rollout | {name if "/" in name else f"train/{name}": x for name, x in metrics.items()}


def advancer(
    update: Callable[[RunState], tuple[RunState, Stats]], *, freeze: bool
) -> Callable[[RunState, Array], tuple[RunState, Stats]]:
    """Update until every seed has reached ``steps``. ``freeze``: seeds need unequal numbers of updates, and those that
    are there wait."""

    update = jax.jit(update, inline=True)  # traced once, for its names and for the loop

    def advance(state: RunState, steps: Array) -> tuple[RunState, Stats]:
        names = sorted(jax.eval_shape(update, state)[1])

        def body(loop: tuple[RunState, Array]) -> tuple[RunState, Array]:
            state, total = loop
            new, stats = update(state)
            vector = jnp.stack([stats[name] for name in names], axis=-1)
            if freeze:
                active = state.env_steps < steps
                new, vector = select(active, (new, vector), (state, jnp.zeros_like(vector)))
            return new, total + vector

        total = jnp.zeros((*state.env_steps.shape, len(names)))
        state, total = jax.lax.while_loop(lambda loop: jnp.any(loop[0].env_steps < steps), body, (state, total))
        return state, {name: total[..., i] for i, name in enumerate(names)}

    return advance


def evaluator(
    recipe: Recipe, learner: Learner, stream: Stream
) -> Callable[[LearnerState, Array, Array], Float[Array, "..."]]:
    """The mean return of greedy episodes, on random numbers that are a function of the seed's key and the steps."""

    def one(state: LearnerState, key: Array, steps: Array) -> Array:
        key = jax.random.fold_in(jax.random.fold_in(key, 0x5EED), steps)
        return jnp.mean(episode_returns(learner.model(state), stream, key, recipe.eval_episodes, True)[0])

    return one if recipe.seeds == 1 else jax.vmap(one)


def select(flag: Array, new: PyTree, old: PyTree) -> PyTree:
    """``new`` where ``flag`` (one per seed), else ``old``; typed keys included."""
    return jax.tree.map(lambda a, b: jnp.where(flag.reshape(*flag.shape, *[1] * (a.ndim - flag.ndim)), a, b), new, old)


def means(stats: Stats) -> dict[str, np.ndarray]:
    """The log row of some updates: means, NaN where nothing was seen."""
    sums = {name: np.asarray(x) for name, x in jax.device_get(stats).items()}

    def per(total: np.ndarray, n: np.ndarray) -> np.ndarray:
        return np.where(n > 0, total / np.maximum(n, 1), np.float32(np.nan))

    names = {"rollout/ep_rew_mean": "ret", "rollout/ep_len_mean": "length", "rollout/truncated": "truncated"}
    rollout = {name: per(sums[key], sums["episodes"]) for name, key in names.items() if key in sums}
    train = {name: per(x, sums["updates"]) for name, x in sums.items() if name.startswith("train/")}
    now = {name: x for name, x in sums.items() if name.startswith("offpolicy/")}  # a look at the last state, no sum
    return rollout | train | now | noise(sums)


def noise(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of the policy's gradient, from :func:`policygrad.learn.learner.noise_sums` over some updates: the window's
    signal-to-noise ratio ‖E g‖²/tr Cov ĝ (unbiased parts, so that it may be below zero), the noise scale in columns
    (how many would make it one; NaN where no signal was seen), and the mean cosine between two columns' gradients."""
    if "measure/updates" not in sums:
        return {}
    n, columns, signal, spread, cosine = (
        sums[f"measure/{name}"] for name in ("updates", "columns", "signal", "spread", "cosine")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = signal / spread
        scale = np.where(snr > 0, columns / n / snr, np.float32(np.nan))
        return {"measure/snr": snr, "measure/noise_scale": scale, "measure/cosine": cosine / n}
