"""``pg.measure``: from an environment and a policy to a report on its gradients."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
from gymnasium.wrappers import TimeLimit

from policygrad.collect.host import Clock, HostCollector, plain
from policygrad.collect.xla import episode_collector
from policygrad.envs import host, registry
from policygrad.envs.core import Stream, autoreset
from policygrad.envs.memory import remember
from policygrad.envs.tabular import TabularMDP
from policygrad.ladder.psi import Psi
from policygrad.measure.decomposition import FEWEST_STATES, Decomposition, decompose, decompose_host
from policygrad.measure.exactly import measure_exactly
from policygrad.measure.gather import require_batches
from policygrad.measure.microscope import measure_gradients
from policygrad.measure.rungs import Rung, is_unbiased, make_rungs
from policygrad.models.actor_critic import ActorCritic, FrameWindow
from policygrad.run.api import Run, is_object, require_same_spaces
from policygrad.run.build import enable_compilation_cache, host_maker
from policygrad.run.devices import cores
from policygrad.run.policy import Policy, with_memory
from policygrad.run.recipes import Recipe, RecipeError
from policygrad.run.report import Report

Tell = Callable[[str, int, int], None]
"""``(what, done, of)``, while trajectories are played."""


def measure(
    env: Any,
    policy: Any = None,
    *,
    critic: Any = None,
    behaviour: Any = None,
    rungs: Sequence[str] | Mapping[str, Psi] | None = None,
    objective: str = "discounted",
    gamma: float | None = None,
    trajectories: int = 4096,
    reference: int | None = None,
    batch: int = 64,
    exact: bool = False,
    parts: int = 0,
    max_episode_steps: int | None = None,
    seed: int = 0,
    tell: Tell = lambda what, done, n: None,
) -> Report:
    """Measure the policy gradient: noise, bias and worth of every rung on one frozen policy.

        report = pg.measure("CartPole-v1", run.policy)
        print(report)
        report.save("report")                      # report.html, pictures, report.json

    Args:
        env: an id or an environment; or a :class:`Run`, whose policy is measured where it was trained.
        policy: a :class:`Policy`, a :class:`Run` or a model (``eqx.Module``).
        critic: a model whose V is used; None: the policy's own.
        behaviour: another policy, which acts: importance weights are then measured.
        rungs: names of ``policygrad measure --help`` (``gae:0.9`` sets its number, ``all`` is all), or name -> Psi;
            None: the ladder's main steps. Plain REINFORCE is always there: *worth* is counted in its data.
        objective: ``discounted`` (γ^t kept), ``undiscounted``, or ``approximation`` (γ, but γ^t dropped).
        gamma: γ; None: the run's, else 0.99.
        trajectories: episodes played for the rungs; ``reference`` more, by default as many, stand for the true
            gradient.
        batch: N, the batch size at which rungs are compared, and which they couple.
        exact: for a :class:`TabularMDP`: no sampling at all.
        parts: from so many states, at which several actions are tried and several continuations played, tell which
            parts of the variance are caused by the state, by the action and by what followed; 0: not.
        max_episode_steps: time limit, in place of the environment's own.
        tell: called while playing.

    Raises:
        RecipeError, ValueError: a policy that does not fit, a rung that needs a critic where there is none, too few
            trajectories, no end of an episode in sight, nothing but zeros. One sentence each.
    """
    enable_compilation_cache()
    who, policies, chosen = plan(
        env, policy, critic=critic, behaviour=behaviour, rungs=rungs, objective=objective, gamma=gamma,
        trajectories=trajectories, reference=reference, batch=batch, exact=exact, parts=parts,
        max_episode_steps=max_episode_steps, seed=seed,
    )  # fmt: skip
    recipe, critic, has_critic, gamma, model = who.recipe, who.critic, who.has_critic, who.gamma, who.policy.model
    began = time.perf_counter()
    with Stage(who.env, policies, recipe, batch, who.limit) as stage:
        where = stage.decompose(policies[0], gamma, objective, parts, critic, seed) if parts else None
        if exact:
            found = measure_exactly(
                stage.tabular(), model, chosen, gamma=gamma, declared=objective, batch=batch, critic=critic,
                behaviour=policies[1].model if behaviour is not None else None,
            )  # fmt: skip
        else:
            own, acting = stage.collector(policies[0]), stage.collector(policies[-1])
            found = measure_gradients(
                acting, model, chosen, gamma=gamma, objective=objective, trajectories=trajectories,
                reference_trajectories=reference, batch=batch, critic=critic, has_critic=has_critic,
                collect_reference=None if behaviour is None else own, seed=seed, tell=tell, threads=stage.threads,
            )  # fmt: skip
    seconds = time.perf_counter() - began
    return Report(found, who.name, recipe.to_dict() if recipe else None, seed=seed, seconds=seconds, parts=where)


def plan(
    env: Any,
    policy: Any = None,
    *,
    rungs: Any,
    objective: str,
    gamma: float | None,
    trajectories: int,
    reference: int | None,
    batch: int,
    exact: bool,
    parts: int,
    max_episode_steps: int | None,
    seed: int,
    critic: Any = None,
    behaviour: Any = None,
) -> tuple["Subject", list[Policy], dict[str, Rung]]:
    """What :func:`measure` is about to do, looked at before anything is played: whose gradient; who plays; the
    rungs."""
    counts: tuple = (("trajectories", trajectories, 4), ("batch", batch, 1), ("seed", seed, 0), ("parts", parts, 0))
    least = (("reference", reference, 4 * batch), ("max_episode_steps", max_episode_steps, 1))
    require_whole((*counts, *(one for one in least if one[1] is not None)))
    if 0 < parts < FEWEST_STATES:
        raise RecipeError(f"parts must be 0 or at least {FEWEST_STATES} states, not {parts}")
    if not exact:
        require_batches(trajectories, batch)
    who = subject_of(env, policy, critic, gamma, batch, max_episode_steps)
    policies = [who.policy] if behaviour is None else [who.policy, as_policy(behaviour, who.recipe)]
    off_policy = behaviour is not None
    chosen = make_rungs(rungs, gamma=who.gamma, objective=objective, critic=who.has_critic, off_policy=off_policy)
    chosen |= as_trained(who.recipe, who.has_critic, behaviour, who.gamma, objective)
    coupling = [name for name, rung in chosen.items() if rung.couples]
    if batch == 1 and coupling:
        raise RecipeError(f"the rung {coupling[0]!r} couples the trajectories of a batch: give a batch of at least 2")
    if exact:
        with Stage(who.env, policies, who.recipe, batch, who.limit) as stage:
            stage.tabular()
    return who, policies, chosen


def require_whole(counts: Iterable[tuple[str, Any, int]]) -> None:
    """A RecipeError where one of ``(name, number, least)`` is no whole number, or less than that."""
    for name, number, least in counts:
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise RecipeError(f"{name} must be a whole number of at least {least}, not {number!r}")


class Subject(NamedTuple):
    """Whose gradient is looked at, and where."""

    env: Any
    name: str
    policy: Policy
    recipe: Recipe | None
    critic: Any
    has_critic: bool
    gamma: float
    limit: int | None


def subject_of(
    env: Any, policy: Any, critic: Any, gamma: float | None, batch: int, max_episode_steps: int | None
) -> Subject:
    """What a user gives, completed from the run that is among it."""
    recipe = next((x.recipe for x in (policy, env) if isinstance(x, Run)), None)
    name = env if isinstance(env, str) else None
    if isinstance(env, Run):
        name, policy = env.recipe.env, env if policy is None else policy
        env = env_of(env, batch, max_episode_steps)
    if policy is None:
        raise RecipeError("give a policy beside the environment: a Run, its policy, or a model")
    policy = as_policy(policy, recipe)
    return Subject(
        env=env,
        name=name or registry.env_id(env),
        policy=policy,
        recipe=recipe,
        critic=as_policy(critic, recipe).model if isinstance(critic, Run | Policy) else critic,
        has_critic=critic is not None or has_values(policy.model),
        gamma=(recipe.gamma if recipe else 0.99) if gamma is None else gamma,
        limit=recipe.max_episode_steps if recipe and max_episode_steps is None else max_episode_steps,
    )


def env_of(run: Run, batch: int, limit: int | None) -> Any:
    """The environment of a run: a pure world itself, another by its name, and what has none as the run makes it."""
    if not registry.is_host(run.env):
        return run.env
    if not is_object(run.recipe):
        return run.recipe.env
    if limit not in (None, run.recipe.max_episode_steps):
        raise RecipeError("max_episode_steps is fixed in a run on an environment object: drop it, or wrap the object")
    program: Any = run.program
    return getattr(program, "inner", program).make_env(batch, True)


def as_policy(given: Any, recipe: Recipe | None) -> Policy:
    """A policy from whatever holds one."""
    if isinstance(given, Run):
        return given.policy
    if isinstance(given, Policy):
        return given
    if isinstance(given, eqx.Module):
        remembers = recipe is not None and recipe.remembers
        return Policy(given, None, None, remembers=remembers)  # type: ignore[arg-type]
    raise RecipeError(f"a {type(given).__name__} is no policy: give a Run, its policy, or a model (an eqx.Module)")


def has_values(model: Any) -> bool:
    """Whether a model has a critic. One of the user's own is believed to."""
    return not isinstance(model, ActorCritic | FrameWindow) or model.critic is not None


def as_trained(
    recipe: Recipe | None, has_critic: bool, behaviour: Any, gamma: float, objective: str
) -> dict[str, Rung]:
    """The run's own Ψ, cut into windows as its training cuts it."""
    if recipe is None or behaviour is not None or recipe.psi.correction != "none":
        return {}
    psi = recipe.psi
    if "value" in psi.needs and not has_critic:
        return {}
    window = recipe.n_steps if recipe.collect == "window" else None
    return {"as trained": Rung("as trained", psi, window is None and is_unbiased(psi, objective, gamma), window)}


class Stage:
    """Where whole episodes are played: a pure world or Gymnasium's. Use it in a ``with`` statement."""

    def __init__(self, env: Any, policies: list[Policy], recipe: Recipe | None, batch: int, limit: int | None):
        self.batch, self.limit, self.recipe = batch, limit, recipe
        self.env, self.made = env, env
        self.ours = False
        if registry.is_host(env) and not isinstance(env, host.HostEnv):
            self.made, self.ours = self.host(env), True
        elif isinstance(env, str):
            made = registry.make(env, **(recipe.env_options if recipe and recipe.env == env else {}))
            self.made = self.host(env) if registry.is_host(made) else made
            self.ours = registry.is_host(made)
        self.name = env if isinstance(env, str) else registry.env_id(env)  # in errors
        for policy in policies:
            if policy.observation_space is None:
                policy.observation_space, policy.action_space = self.made.observation_space, self.made.action_space
            require_same_spaces(policy, self.made)

    def host(self, env: Any) -> Any:
        """A batch of environments on the host, as training has them."""
        if self.recipe is not None:
            return host_maker(replace(self.recipe, max_episode_steps=self.limit), env)(self.batch, True)
        return host.make(env, self.batch, training=True, max_episode_steps=self.limit)

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *error: Any) -> None:
        if self.ours:
            self.made.close()

    @property
    def threads(self) -> int:
        """Batches that are worked on at once: an environment on the host goes on where the last batch left it."""
        return 1 if registry.is_host(self.made) else cores()

    def tabular(self) -> TabularMDP:
        if not isinstance(self.made, TabularMDP):
            raise RecipeError(
                f"{self.name} is no TabularMDP, and only those can be measured exactly: drop exact, or choose "
                "chain, corridor, grid, cliff or random"
            )
        return self.made

    def stream(self, policy: Policy) -> Stream:
        """A pure world, as this policy plays it."""
        env = remember(self.made) if policy.remembers else self.made
        finite = self.recipe is not None and self.recipe.time_to_go
        limit = self.limit or env.time_limit or getattr(env, "horizon", None)
        if limit is None:
            raise RecipeError(
                f"{self.name} has no time limit, so an episode may never end: set max_episode_steps"
                + (", or measure it exactly" if isinstance(self.made, TabularMDP) else "")
            )
        return autoreset(env, limit, finite_horizon=finite)

    def decompose(
        self, policy: Policy, gamma: float, objective: str, states: int, critic: Any, seed: int
    ) -> Decomposition:
        """Where the variance of this policy's gradient comes from."""
        how: dict[str, Any] = {
            "gamma": 1.0 if objective == "undiscounted" else gamma,
            "discounted": objective == "discounted",
            "states": states,
            "critic": critic,
            "seed": seed,
        }
        if not registry.is_host(self.made):
            return decompose(self.stream(policy), policy.model, **how)
        r, one = self.recipe, self.env
        if not isinstance(one, str) and not callable(one):
            raise RecipeError("parts need new environments of the same kind: give an id, or a function that makes one")
        options: dict[str, Any] = {"env_kwargs": r.env_options, "wrappers": r.wrappers} if r else {}

        def make() -> Any:
            made = host.make_single(one, **options)
            return made if self.limit is None else TimeLimit(made, self.limit)

        limit = getattr(self.made, "time_limit", None) if self.limit is None else self.limit
        return decompose_host(make, policy.model, show=self.show(policy), max_episode_steps=limit, **how)

    def collector(self, policy: Policy) -> Callable[[jax.Array], Any]:
        """``key -> trajectory`` of whole episodes of this policy."""
        if registry.is_host(self.made):
            return self.host_collector(policy)
        collector = episode_collector(self.stream(policy), self.batch)
        arrays, static = eqx.partition(policy.model, eqx.is_array)

        @jax.jit
        def play(arrays: Any, key: jax.Array) -> Any:
            return collector.collect(eqx.combine(arrays, static), None, key)[1]

        return partial(play, arrays)

    def show(self, policy: Policy) -> Callable[..., Any]:
        """What this policy sees of a host environment."""
        return partial(with_memory, self.made.observation_space, self.made.action_space) if policy.remembers else plain

    def host_collector(self, policy: Policy) -> Callable[[jax.Array], Any]:
        recipe = self.recipe
        collector = HostCollector(
            self.made,
            None,
            clock=Clock(),
            show=self.show(policy),
            clip_reward=recipe is not None and recipe.clip_reward,
            finite_horizon=recipe is not None and recipe.time_to_go,
        )
        state: list[Any] = []

        def play(key: jax.Array) -> Any:
            if not state:
                state.append(collector.init(policy.model, key))
            state[0], trajectory, _ = collector.collect(policy.model, state[0], key)
            return trajectory

        return play
