"""The library in three calls: :func:`train`, :func:`load`, :func:`evaluate`."""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from policygrad.envs import registry
from policygrad.envs.core import autoreset
from policygrad.run import train as loop
from policygrad.run.evaluate import Evaluation, evaluate_host, evaluate_pure
from policygrad.run.policy import Policy
from policygrad.run.program import Program, make_program
from policygrad.run.recipes import Recipe, RecipeError, make_recipe
from policygrad.run.record import RunDirectory
from policygrad.run.statistics import summary


class Run:
    """A run, trained or loaded: its policies, its history and its folder."""

    def __init__(self, fit: loop.Fit, raw_env: Any, *, checkpoint: str = "best"):
        self._fit, self._env, self._checkpoint = fit, raw_env, checkpoint

    def __repr__(self) -> str:
        return f"<Run {self.recipe.algo} on {self.recipe.env}, {self.recipe.seeds} seed(s), {int(self._fit.env_steps.min()):,} steps, path={str(self.path)!r}>"

    @property
    def recipe(self) -> Recipe:
        return self._fit.program.recipe

    @property
    def path(self) -> Path | None:
        """The run directory; None for a run that was kept in memory."""
        return None if self._fit.directory is None else self._fit.directory.path

    @property
    def env(self) -> Any:
        """The pure environment it was trained on."""
        return self._env

    @property
    def policy(self) -> Policy:
        """The policy of the first seed: the best one by evaluation (or the last, as it was loaded)."""
        return self.policies[0]

    @property
    def policies(self) -> list[Policy]:
        """The policy of every seed."""
        env = self._env
        return [Policy(model, env.observation_space, env.action_space, remembers=self.recipe.remembers) for model in self.models]

    @property
    def models(self) -> list[Any]:
        """The ``eqx.Module`` of every seed."""
        if self._checkpoint == "best":
            return [loop.best_model(self._fit, seed) for seed in range(self.recipe.seeds)]
        return [self._fit.program.model(self._fit.state, seed) for seed in range(self.recipe.seeds)]

    @property
    def program(self) -> Program:
        """The pure functions of the run."""
        return self._fit.program

    @property
    def state(self) -> Any:
        """The whole state, one pytree."""
        return self._fit.state

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Every logged key as ``[log points, seeds]``, and ``time/total_timesteps``; NaN where a key was not measured."""
        rows = self._fit.history
        names = list(dict.fromkeys(name for row in rows for name in row))
        nothing = np.full(self.recipe.seeds, np.nan)
        return {name: np.stack([np.broadcast_to(row.get(name, nothing), self.recipe.seeds) for row in rows]) for name in names}

    def summary(self) -> dict[str, float]:
        """Mean, IQM and 95 % bootstrap interval over *seeds* of the best evaluation."""
        return summary(self._fit.best.reward[np.isfinite(self._fit.best.reward)])

    def evaluate(self, env: Any = None, *, episodes: int = 100, deterministic: bool = True, seed: int = 1_000_003) -> list[Evaluation]:
        """Evaluate every seed's policy: see :func:`evaluate`."""
        return [evaluate(policy, env or self._env, episodes=episodes, deterministic=deterministic, seed=seed, max_episode_steps=self.recipe.max_episode_steps) for policy in self.policies]

    def plot(self, out: str | os.PathLike | None = None, key: str = "rollout/ep_rew_mean") -> Path:
        """Draw the learning curve (with several seeds: mean and 95 % interval) and return the picture's path."""
        from policygrad.run.plots import learning_curves

        history = self.history
        curves = []
        for seed in range(self.recipe.seeds):
            values = history[key][:, seed]
            known = np.isfinite(values)
            curves.append((history["time/total_timesteps"][known, seed], values[known]))
        target = Path(out) if out is not None else (self._fit.directory.curve if self._fit.directory is not None else Path("curve.png"))
        learning_curves({self.recipe.algo: curves}, target, title=self.recipe.env)
        return target


def train(
    env: Any = "CartPole-v1",
    algo: str | Recipe = "a2c",
    *,
    out: str | os.PathLike | None = "runs",
    path: str | os.PathLike | None = None,
    model: Any = None,
    callback: loop.Callback | None = None,
    tensorboard: bool = True,
    **options: Any,
) -> Run:
    """Train a policy.

        run = pg.train("CartPole-v1", "a2c", total_timesteps=500_000, seeds=8)

    Args:
        env: an id, or an object that follows :class:`policygrad.Env`.
        algo: a preset's name (``policygrad list``), or a whole :class:`Recipe`.
        out: the folder in which ``<env>/<algo>-<n>/`` is made; None keeps the run in memory.
        path: exactly this folder instead; it must not exist.
        model: an own ``eqx.Module`` (every seed starts from it), or a function ``key -> eqx.Module``. It needs
            ``__call__(input, carry) -> (Output, carry)`` and ``initial() -> carry``.
        callback: called with every log row; returning False ends the run.
        options: any field of :class:`Recipe`.

    Raises:
        RecipeError, ValueError: bad options, before anything is written.
        TrainingDiverged: a non-finite reward or gradient.
        Interrupted: Ctrl-C; the state is saved.
    """
    enable_compilation_cache()
    made = pure_env(env)
    name = env if isinstance(env, str) else registry.env_id(env)
    if isinstance(algo, Recipe):
        recipe = make_recipe(algo.algo, name, **{**{k: v for k, v in algo.to_dict().items() if k not in ("algo", "env")}, **options})
    else:
        recipe = make_recipe(algo, name, **options)
    program = make_program(recipe, made, model)
    directory = None
    if path is not None:
        directory = RunDirectory.create_at(path)
    elif out is not None:
        directory = RunDirectory.create(name, recipe.algo, out)
    if directory is not None:
        directory.write_recipe(recipe.to_dict())
    run = Run(loop.start(program, directory), made)
    loop.fit(run._fit, callback=callback, tensorboard=tensorboard)
    return finish(run)


def resume(path: str | os.PathLike, *, env: Any = None, model: Any = None, callback: loop.Callback | None = None, tensorboard: bool = True, **options: Any) -> Run:
    """Go on where a run was last saved. The result is, bit for bit, that of a run that was never stopped.

    ``total_timesteps`` may be raised; nothing else of the recipe can change what was learned so far, so nothing else may change.
    """
    enable_compilation_cache()
    run = load(path, env=env, model=model, checkpoint="last", **options)
    fit = run._fit
    fit.finished = bool(fit.env_steps.min() >= run.recipe.total_timesteps)
    if not fit.finished:
        assert fit.directory is not None
        fit.directory.write_recipe(run.recipe.to_dict())
        loop.fit(fit, callback=callback, tensorboard=tensorboard)
    run._checkpoint = "best"
    return finish(run)


def finish(run: Run) -> Run:
    """What a finished run leaves besides its numbers: the picture."""
    if run.path is not None and any(np.isfinite(row.get("rollout/ep_rew_mean", np.nan)).any() for row in run._fit.history):
        run.plot()
    return run


def load(path: str | os.PathLike, *, env: Any = None, model: Any = None, checkpoint: str = "best", **options: Any) -> Run:
    """A saved run.

    Args:
        path: its directory.
        env, model: the objects it was trained with, where they were no ids.
        checkpoint: which policy ``run.policy`` is: ``best`` by evaluation, or ``last``.

    Raises:
        RunError, CheckpointError: no run, or one that cannot be used; one clear sentence.
    """
    if checkpoint not in ("best", "last"):
        raise RecipeError(f"unknown checkpoint {checkpoint!r}: choose best or last")
    directory = RunDirectory.open(path)
    recipe = Recipe.from_dict({**directory.read_recipe(), **options})
    made = pure_env(env if env is not None else recipe.env)
    fit = loop.resume(make_program(recipe, made, model), directory)
    fit.history.extend(stored_history(directory, recipe))
    return Run(fit, made, checkpoint=checkpoint)


def stored_history(directory: RunDirectory, recipe: Recipe) -> list[dict[str, Any]]:
    """The rows of ``metrics.csv``, one per log point with its seeds side by side."""
    from policygrad.run.record import STEP, read_metrics

    if not directory.metrics.exists():
        return []
    table = read_metrics(directory.metrics)
    per_seed = [{key: column[table["seed"] == recipe.seed + i] for key, column in table.items()} for i in range(recipe.seeds)]
    n = max(len(columns[STEP]) for columns in per_seed)
    pad = lambda x: np.concatenate([x.astype(float), np.full(n - len(x), np.nan)])  # noqa: E731
    joined = {key: np.stack([pad(columns[key]) for columns in per_seed], axis=1) for key in table if key != "seed"}
    return [{key: column[i] for key, column in joined.items()} for i in range(n)]


def evaluate(policy: Any, env: Any, *, episodes: int = 100, deterministic: bool = True, seed: int = 1_000_003, max_episode_steps: int | None = None) -> Evaluation:
    """Play whole episodes with a policy (or a run's first one).

    Args:
        policy: a :class:`Policy` or a :class:`Run`.
        env: an id (``gym:CartPole-v1`` is the real Gymnasium), or an environment.
        deterministic: the mode of π, or samples.

    Returns:
        returns and lengths, with ``mean`` and a 95 % bootstrap ``interval`` over episodes.
    """
    if episodes < 1:
        raise RecipeError(f"episodes must be at least 1, not {episodes}")
    if isinstance(policy, Run):
        policy = policy.policy
    made = registry.make(env, num_envs=min(episodes, 16)) if isinstance(env, str) and registry.is_host(env) else registry.make(env)
    require_same_spaces(policy, made)
    if not registry.is_host(made):
        from policygrad.envs.memory import remember

        stream = autoreset(remember(made) if policy.remembers else made, max_episode_steps)
        return evaluate_pure(policy.model, stream, episodes, seed=seed, deterministic=deterministic)
    try:
        return evaluate_host(policy, made, episodes, seed=seed, deterministic=deterministic)
    finally:
        if isinstance(env, str):
            made.close()


def require_same_spaces(policy: Policy, env: Any) -> None:
    """A policy plays where observations and actions have the shapes it knows."""
    for what, mine, theirs in (("observation", policy.observation_space, env.observation_space), ("action", policy.action_space, env.action_space)):
        if type(mine) is not type(theirs) or mine.shape != theirs.shape or getattr(mine, "n", None) != getattr(theirs, "n", None):
            raise RecipeError(f"the policy's {what} space is {mine} and the environment's is {theirs}: evaluate it on an environment with the same spaces")


def pure_env(env: Any) -> Any:
    """The environment, if it can be trained on."""
    made = registry.make(env) if not (isinstance(env, str) and registry.is_host(env)) else None
    if made is None or registry.is_host(made):
        name = env if isinstance(env, str) else registry.env_id(env)
        twin = str(name).removeprefix("gym:")
        fix = f"train on its pure-JAX twin {twin}, and evaluate on {name}" if twin in registry.TWINS else "train on a pure-JAX environment (`policygrad list`, or your own class with Env's methods)"
        raise RecipeError(f"{name} runs on the host, and training needs a pure-JAX environment: {fix}")
    return made


def enable_compilation_cache() -> None:
    """Keep compiled programs between processes, unless the user has chosen a place or set ``POLICYGRAD_CACHE=off``."""
    place = os.environ.get("POLICYGRAD_CACHE", "")
    if place == "off" or jax.config.jax_compilation_cache_dir is not None:
        return
    root = Path(place) if place else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "policygrad" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(root))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
