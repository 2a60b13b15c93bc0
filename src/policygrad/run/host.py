"""From a recipe to a run where the environment is stateful: the same state and the same steps as in
:mod:`policygrad.run.program`, driven by a loop in Python.

One device call acts for all environments, one learns from the window. Seeds take turns, each with environments of its
own.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from policygrad.collect.host import Clock, HostCollector, leaves_of, plain
from policygrad.envs.host import HostEnv
from policygrad.envs.memory import remember
from policygrad.learn.learner import Learner, LearnerState
from policygrad.run.evaluate import evaluate_host
from policygrad.run.policy import Policy, check_model, some_obs, with_memory
from policygrad.run.program import QUICK, RunState, Stats, learner_of, model_maker, one_seed, stats_of
from policygrad.run.recipes import Recipe
from policygrad.types import Finished, Trajectory

EVAL_ENVS = 8
"""Environments side by side in an evaluation."""


@dataclass(frozen=True)
class HostProgram:
    """A recipe made executable on host environments. See :class:`policygrad.run.program.Program`."""

    recipe: Recipe
    groups: int
    """Seeds take turns: as many groups as seeds."""
    raw_env: HostEnv
    """The environments of the first seed: for those who ask for spaces."""
    make_env: Callable[[int, bool], HostEnv]
    """``(num_envs, training) -> HostEnv``."""
    learner: Learner
    fresh: Callable[[Array], RunState]
    """``key(s) -> state`` without environments; traceable."""
    init: Callable[[Array], RunState]
    advance: Callable[..., tuple[RunState, Stats]]
    """``(state, steps, stop) -> (state, statistics)``: play and learn until every seed has that many environment steps,
    or ``stop()`` says so between two updates."""
    evaluate: Callable[..., np.ndarray]
    """``(state, stop) -> [seeds]`` mean greedy returns, on the environment's own scale, in environments of its own;
    NaN where ``stop()`` said so before it was known."""
    judge: Callable[[], HostEnv]
    """The environments of the evaluations, made at the first call."""
    clock: Clock
    close: Callable[[], None]

    def model(self, state: RunState, seed: int = 0) -> Any:
        """The model of one seed."""
        return self.learner.model(one_seed(self.recipe, state.learner, seed))

    def saved(self, state: RunState) -> RunState:
        """What a file can hold of a state: everything but the environments. A loaded state goes on at the first step of
        new episodes."""
        return state._replace(collector=())

    def like(self, keys: Array) -> RunState:
        """The shapes of every saved state."""
        return self.saved(jax.eval_shape(self.fresh, keys))

    @property
    def starting(self) -> float:
        """Seconds of compiling so far."""
        return self.clock.compiling

    def shares(self) -> dict[str, float]:
        """For a log row: the shares of the time since the last one."""
        return self.clock.shares()


def make_host_program(recipe: Recipe, make_env: Callable[[int, bool], HostEnv], model: Any = None) -> HostProgram:
    """The program of a recipe.

    Args:
        make_env: ``(num_envs, training) -> HostEnv``.
        model: an ``eqx.Module`` to start from, or a function ``key -> eqx.Module``; None: as the recipe says.
    """
    r, clock = recipe, Clock()
    env = make_env(1 if r.collect == "dataset" else r.n_envs, True)
    learner = host_learner(r, env, model)
    collectors = {0: host_collector(r, env, clock)}
    one_update = jax.jit(partial(learning, learner))
    learn, split = jax.jit(partial(with_one_vector, one_update)), jax.jit(partial(jax.random.split, num=3))

    def collector_of(i: int) -> HostCollector:
        if i not in collectors:
            collectors[i] = host_collector(r, make_env(r.n_envs, True), clock)
        return collectors[i]

    def fresh_one(key: Array) -> RunState:
        model_key, key = jax.random.split(key)
        counters = jnp.zeros((), jnp.int32), jnp.full((), -1, jnp.int32)
        return RunState(learner.init(model_key), (), key, *counters)

    fresh = fresh_one if r.seeds == 1 else jax.vmap(fresh_one)
    start = jax.jit(fresh, compiler_options=QUICK)

    def init(keys: Array) -> RunState:
        state = start(keys)
        return state._replace(env_steps=np.asarray(state.env_steps), first_bad=np.asarray(state.first_bad))

    def advance_one(collector: HostCollector, state: RunState, steps: int, stop: Callable[[], bool]) -> tuple:
        names: list[str] = []
        totals: Any = np.zeros(0)
        first = time.perf_counter() if clock.compiling == 0 else None
        if state.collector == ():
            key, begin_key, _ = split(state.key)
            state = state._replace(key=key, collector=collector.init(learner.model(state.learner), begin_key))
        leaves, keys = leaves_of(learner.model(state.learner)), split(state.key)
        while int(state.env_steps) < steps and state.first_bad < 0:
            key, collect_key, learn_key = keys
            collected, trajectory, finished = collector.play(leaves, state.collector, collect_key)
            now = time.perf_counter()
            window = state.learner, trajectory, finished, learn_key, key
            if not names:
                names = sorted(one_update.eval_shape(*window)[3])
                totals = np.zeros(len(names))
            learned, leaves, keys, stats, finite = learn(*window)
            totals = totals + np.asarray(stats)
            first_bad: Any = state.first_bad if finite else np.asarray(state.env_steps)
            env_steps: Any = np.asarray(state.env_steps + trajectory.mask.sum(), np.int32)
            state = RunState(learned, collected, key, env_steps, first_bad)
            clock.add("learning", now)
            if first is not None:
                clock.began(first)
                first = None
            if stop():
                break
        return state, dict(zip(names, totals.astype(np.float32)))

    def advance(state: RunState, steps: Any, stop: Callable[[], bool] = lambda: False) -> tuple[RunState, Stats]:
        results = [advance_one(collector_of(i), take(r, state, i), int(steps), stop) for i in range(r.seeds)]
        names = dict.fromkeys(
            name for _, totals in results for name in totals
        )  # a seed that was there already has none
        return join(r, [(state, {name: totals.get(name, np.zeros(())) for name in names}) for state, totals in results])

    judges: list[Any] = []

    def judge() -> HostEnv:
        if not judges:
            judges.append(make_env(min(EVAL_ENVS, r.eval_episodes), False))
        return judges[0]

    def evaluate(state: RunState, stop: Callable[[], bool] = lambda: False) -> np.ndarray:
        on, means = judge(), []
        if len(judges) == 1:
            judges.append(Policy(program.model(state), env.observation_space, env.action_space, remembers=r.remembers))
        policy = judges[1]
        for i in range(r.seeds):
            policy.renew(program.model(state, i))
            seed = int(np.asarray(take(r, state, i).env_steps)) + 1_000_003 * (r.seed + i + 1)
            found = evaluate_host(policy, on, r.eval_episodes, seed=seed % 2**31, stop=stop)
            means.append(np.nan if found is None else found.mean)
        return np.array(means)

    def close() -> None:
        for each in [*(collector.env for collector in collectors.values()), *judges[:1]]:
            each.close()

    program = HostProgram(r, r.seeds, env, make_env, learner, fresh, init, advance, evaluate, judge, clock, close)
    return program


def host_learner(recipe: Recipe, env: HostEnv, model: Any = None) -> Learner:
    """The learner of a recipe on an environment on the host."""
    spaces: Any = Spaces(env)
    if model is not None:
        obs = some_obs(env.observation_space, env.action_space, recipe.remembers)
        check_model(model, obs, env.action_space)
    horizon = recipe.max_episode_steps or spaces.time_limit
    looped = recipe.policy == "gru" or recipe.collect == "dataset" or recipe.gradient_rows is not None
    looped = looped or recipe.n_epochs * recipe.n_minibatches > 1
    seen = remember(spaces) if recipe.remembers else spaces
    return learner_of(recipe, model_maker(recipe, seen, horizon, model, looped=looped))


def host_collector(recipe: Recipe, env: HostEnv, clock: Clock) -> HostCollector:
    """Who plays on it."""
    return HostCollector(
        env,
        recipe.n_steps if recipe.collect == "window" else None,
        show=partial(with_memory, env.observation_space, env.action_space) if recipe.remembers else plain,
        clock=clock,
        clip_reward=recipe.clip_reward,
        finite_horizon=recipe.time_to_go,
    )


def learning(
    learner: Learner, state: LearnerState, trajectory: Trajectory, finished: Finished, key: Array, next_key: Array
) -> tuple[LearnerState, list[Array], Array, Stats, Array]:
    """One window's update, all in one call: the new parameters, the arrays that play the next window and its keys, the
    statistics, and whether all of it was finite."""
    learned, metrics = learner.update(state, trajectory, key)
    finite = jnp.isfinite(jnp.sum(trajectory.reward)) & jnp.isfinite(metrics["grad_norm"])
    leaves, keys = leaves_of(learner.model(learned)), jax.random.split(next_key, 3)
    return learned, leaves, keys, stats_of(metrics, trajectory, finished), finite


def with_one_vector(update: Callable[..., tuple], *window: Any) -> tuple:
    """:func:`learning` with its statistics, by name, as one array: one is fetched as quickly as another."""
    learned, leaves, keys, stats, finite = update(*window)
    return learned, leaves, keys, jnp.stack([stats[name] for name in sorted(stats)]), finite


@dataclass(frozen=True)
class Spaces:
    """The spaces of a host environment, for those who ask for an environment and mean its spaces."""

    host: HostEnv

    @property
    def observation_space(self) -> Any:
        return self.host.observation_space

    @property
    def action_space(self) -> Any:
        return self.host.action_space

    @property
    def time_limit(self) -> int | None:
        return getattr(self.host, "time_limit", None)


def take(recipe: Recipe, tree: Any, seed: int) -> Any:
    """One seed's share of a state."""
    return tree if recipe.seeds == 1 else jax.tree.map(lambda x: x[seed], tree)


def join(recipe: Recipe, results: list[Any]) -> Any:
    """What the seeds gave: with several, every leaf gets a leading axis."""

    def one(*leaves: Any) -> Any:
        return jnp.stack(leaves) if isinstance(leaves[0], jax.Array) else np.stack(leaves)

    return results[0] if recipe.seeds == 1 else jax.tree.map(one, *results)
