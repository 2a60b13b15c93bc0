"""The library in three calls: :func:`train`, :func:`load`, :func:`evaluate`."""

import json
import os
import sys
from dataclasses import fields, replace
from functools import partial
from multiprocessing import current_process
from pathlib import Path
from typing import Any

import numpy as np

from policygrad.envs import host, registry
from policygrad.envs.core import autoreset
from policygrad.envs.own import own
from policygrad.envs.vector import VectorHost
from policygrad.run import offpolicy as old
from policygrad.run import train as loop
from policygrad.run.build import enable_compilation_cache, synchronous
from policygrad.run.devices import one_device_per_core
from policygrad.run.evaluate import Evaluation, evaluate_host, evaluate_pure
from policygrad.run.host import HostProgram
from policygrad.run.initial import begin_from, with_model_of
from policygrad.run.notes import note
from policygrad.run.policy import Policy
from policygrad.run.program import Program
from policygrad.run.progress import Progress
from policygrad.run.recipes import CHANGEABLE, CLONE, Recipe, RecipeError, change, make_recipe
from policygrad.run.record import RunDirectory, RunError
from policygrad.run.statistics import summary
from policygrad.run.workers import AsyncProgram
from policygrad.storage.checkpoint import CheckpointError, read_meta, read_recipe
from policygrad.storage.datasets import Dataset, check
from policygrad.storage.formats import read_dataset

AnyProgram = loop.AnyProgram
MAX_HOST_ENVS = 64
"""Host environments that are evaluated side by side."""
OF_BUILT_IN_MODELS = {item.name for item in fields(Recipe) if item.metadata["group"] == "model"} - {"remember"}
"""Options that a model of one's own ignores. ``remember`` is about the observations."""


class Run:
    """A run, trained or loaded: its policies, its history and its folder."""

    def __init__(self, fit: loop.Fit, *, checkpoint: str = "best"):
        self._fit, self._checkpoint = fit, checkpoint

    def __repr__(self) -> str:
        recipe, seeds = self.recipe, "1 seed" if self.recipe.seeds == 1 else f"{self.recipe.seeds} seeds"
        where = "in memory" if self.path is None else f"path={str(self.path)!r}"
        return f"<Run {recipe.algo} on {recipe.env}, {seeds}, {int(self.env_steps.min()):,} steps, {where}>"

    @property
    def recipe(self) -> Recipe:
        return self._fit.program.recipe

    @property
    def path(self) -> Path | None:
        """The run directory; None for a run that was kept in memory."""
        return None if self._fit.directory is None else self._fit.directory.path

    @property
    def env(self) -> Any:
        """The environment it was trained on."""
        return self._fit.program.raw_env

    @property
    def policy(self) -> Policy:
        """The policy of the first seed: the best one by evaluation (or the last, as it was loaded)."""
        return self.policies[0]

    @property
    def policies(self) -> list[Policy]:
        """The policy of every seed."""
        env = self.env
        return [
            Policy(model, env.observation_space, env.action_space, remembers=self.recipe.remembers)
            for model in self.models
        ]

    @property
    def models(self) -> list[Any]:
        """The ``eqx.Module`` of every seed."""
        if self._checkpoint == "best":
            return [loop.best_model(self._fit, seed) for seed in range(self.recipe.seeds)]
        return [self._fit.program.model(self._fit.state, seed) for seed in range(self.recipe.seeds)]

    @property
    def program(self) -> AnyProgram:
        """The functions of the run."""
        return self._fit.program

    @property
    def state(self) -> Any:
        """The whole state, one pytree."""
        return self._fit.state

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Every logged key as ``[log points, seeds]``, and ``time/total_timesteps``; NaN where a key was not
        measured."""
        rows = self._fit.history
        names = list(dict.fromkeys(name for row in rows for name in row))
        nothing = np.full(self.recipe.seeds, np.nan)
        return {
            name: np.stack([np.broadcast_to(row.get(name, nothing), self.recipe.seeds) for row in rows])
            for name in names
        }

    @property
    def finished(self) -> bool:
        """Whether its budget is spent, or it was stopped for good."""
        return self._fit.finished

    @property
    def reached_stop(self) -> bool:
        """Whether every seed has evaluated at least as high as ``stop_reward``."""
        return loop.reached_stop(self._fit)

    @property
    def env_steps(self) -> np.ndarray:
        """``[seeds]`` environment steps so far."""
        return self._fit.env_steps

    @property
    def best_reward(self) -> np.ndarray:
        """``[seeds]``: the best mean return of an evaluation during training; −inf where there was none."""
        return self._fit.best.reward

    def discard(self) -> None:
        """Remove its folder, if that holds no checkpoint."""
        self._fit.discard()

    def summary(self) -> dict[str, float]:
        """Mean, IQM and 95 % bootstrap interval over *seeds* of the best evaluation."""
        return summary(self._fit.best.reward[np.isfinite(self._fit.best.reward)])

    def evaluate(
        self, env: Any = None, *, episodes: int = 100, deterministic: bool = True, seed: int = 1_000_003
    ) -> list[Evaluation]:
        """Evaluate every seed's policy: see :func:`evaluate`."""
        limit = self.recipe.max_episode_steps
        program = self._fit.program
        if env is None and not isinstance(program, Program) and program.make_env is not None:
            made, ours = program.make_env(min(episodes, MAX_HOST_ENVS), False), True
        else:
            made = make_for(program.raw_env if env is None else env, episodes, limit, carried(self, env))
            ours = isinstance(env, str)
        how: dict[str, Any] = {"episodes": episodes, "deterministic": deterministic}
        play = partial(evaluate, env=made, max_episode_steps=limit, **how)
        try:  # each seed plays its own episodes: intervals over seeds need them independent
            return [play(policy, seed=seed + 7919 * i) for i, policy in enumerate(self.policies)]
        finally:
            if ours and registry.is_host(made):
                made.close()

    def curves(self, key: str = "rollout/ep_rew_mean") -> list[tuple[np.ndarray, np.ndarray]]:
        """``(steps, values)`` of every seed, where ``key`` was measured."""
        if key not in self.history:
            raise RecipeError(f"{key!r} was not logged: choose one of {', '.join(self.history)}")
        steps, values = self.history["time/total_timesteps"], self.history[key]
        known = np.isfinite(values)
        return [(steps[rows, seed], values[rows, seed]) for seed, rows in enumerate(known.T) if rows.any()]

    def plot(self, out: str | os.PathLike | None = None, key: str = "rollout/ep_rew_mean") -> Path:
        """Draw the learning curve (with several seeds: mean and 95 % interval) and return the picture's path."""
        from policygrad.run.plots import learning_curves

        target = (
            Path(out)
            if out is not None
            else (self._fit.directory.curve if self._fit.directory is not None else Path("curve.png"))
        )
        learning_curves({self.recipe.algo: self.curves(key)}, target, title=self.recipe.env)
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
    wandb: str | None = None,
    progress: bool = False,
    dataset: Dataset | None = None,
    **options: Any,
) -> Run:
    """Train a policy.

        run = pg.train("CartPole-v1", "a2c", total_timesteps=500_000, seeds=8)

    Args:
        env: an id; an object that follows :class:`policygrad.Env`; a Gymnasium environment or vector environment, or a
            function that makes one of them (``n_envs`` is then the vector environment's).
        algo: a preset's name (``policygrad list``), or a whole :class:`Recipe`.
        out: the folder in which ``<env>/<algo>-<n>/`` is made; None keeps the run in memory.
        path: exactly this folder instead; it must not exist.
        model: an own ``eqx.Module`` (every seed starts from it), or a function ``key -> eqx.Module``. It needs
            ``__call__(input, carry) -> (Output, carry)`` and ``initial() -> carry``.
        callback: called with every log row; returning False ends the run, None goes on.
        tensorboard: write TensorBoard files beside ``metrics.csv``.
        wandb: a project of Weights & Biases that gets the same numbers.
        progress: show a bar (in a notebook too).
        dataset: episodes to learn from, in place of the file ``data``: see :func:`offpolicy`.
        options: any field of :class:`Recipe`.

    Raises:
        RecipeError, ValueError: bad options or a bad model, before anything is written.
        TrainingDiverged: a non-finite reward or gradient.
        Interrupted: Ctrl-C; the state is saved.
    """
    run = begin(env, algo, out=out, path=path, model=model, dataset=dataset, **options)
    try:
        return proceed(run, callback=callback, tensorboard=tensorboard, wandb=wandb, progress=progress)
    except BaseException:
        run.discard()
        raise


def offpolicy(env: Any, dataset: Any, **options: Any) -> Run:
    """Learn from episodes of another policy.

        run = pg.offpolicy("CartPole-v1", "cartpole.safetensors", init_from="runs/CartPole-v1/a2c-1")

    Args:
        env: an id or an environment: its spaces, and where the policy is evaluated; ``eval_every=0`` plays nothing.
        dataset: a file, or a :class:`policygrad.storage.datasets.Dataset`, with the log-probabilities of its actions.
        options: those of :func:`train`. ``correction`` is ``self_normalized`` (the default), ``trajectory``,
            ``decision``, ``truncated`` or ``vtrace``; ``init_from`` the run that made the data, or its clone: far from
            it the weights are noise; ``behaviour`` a run that gives the log-probabilities where there are none;
            ``total_timesteps`` counts rows learned from, each time they are.

    Raises:
        RecipeError, DatasetError: no propensities; data that say next to nothing about the policy that begins.
    """
    if isinstance(dataset, Dataset):
        return train(env, "offpolicy", dataset=dataset, data=IN_MEMORY, **options)
    return train(env, "offpolicy", data=os.fspath(dataset), **options)


IN_MEMORY = "(in memory)"
"""What a recipe calls a dataset that is no file."""


def data_of(recipe: Recipe, dataset: Dataset | None) -> Dataset:
    """The dataset of a recipe, with the propensities of its behaviour where it has none."""
    if dataset is None and recipe.data == IN_MEMORY:
        raise RecipeError("this run learned from a dataset in memory, which no file holds: start a new one")
    data = read_dataset(recipe.data) if dataset is None else check(dataset)
    if data.log_mu is None and recipe.behaviour:
        return old.with_propensities(data, load(recipe.behaviour).policy)
    return data


def begin(
    env: Any,
    algo: str | Recipe = "a2c",
    *,
    out: Any = "runs",
    path: Any = None,
    model: Any = None,
    dataset: Dataset | None = None,
    **options: Any,
) -> Run:
    """A run at its beginning, with its folder: the first half of :func:`train`; :func:`proceed` is the second."""
    refuse_inside_a_worker()
    enable_compilation_cache()
    name = env if isinstance(env, str) else registry.env_id(env)
    if model is not None:
        refuse_model_options(options)
        options["policy"] = "own"
    if isinstance(env, str):
        registry.require_trainable(env)
    elif isinstance(algo, str) and "n_envs" not in options:
        env, size = size_of(env, options)
        options |= size
    if "wrapper" in options:
        options["wrapper"] = names_of(options["wrapper"])
    options = with_model_of(options)
    recipe = change(algo, env=name, **options) if isinstance(algo, Recipe) else make_recipe(algo, name, **options)
    if recipe.video_every:
        from policygrad.run.video import require_drawable  # late: most runs draw no pictures

        require_drawable(recipe)
    if recipe.collect == "dataset" and not recipe.data:
        raise RecipeError(
            "offpolicy learns from a dataset: give one with data (--data FILE); policygrad record RUN makes one"
        )
    program = program_of(recipe, env, model, dataset=dataset)
    if not isinstance(env, str) and not callable(env):
        look_at_copies(recipe, env, program)
    fit = loop.start(program)
    if recipe.init_from:
        source = load(recipe.init_from)
        fit = begin_from(fit, source.policy.model)
        source.program.close()
    if recipe.collect == "dataset":
        old.require_overlap(program, fit.state)
    fit.directory = RunDirectory.create_for(name, recipe.algo, out=out, path=path)
    if fit.directory is not None:
        fit.directory.write_recipe(recipe.to_dict())
        if recipe.collect == "dataset":
            old.keep_fingerprint(fit.directory, read_dataset(recipe.data) if dataset is None else check(dataset))
    return Run(fit)


def size_of(env: Any, options: dict[str, Any]) -> tuple[Any, dict[str, int]]:
    """``(env, {"n_envs": as many as the user's batch has})``, where it is a batch. A function is called for that, and
    what it made is used first."""
    plain = options.get("vectorization") != "async" and "env_kwargs" not in options
    if plain and host.is_function(env) and not registry.follows_env(env):
        env = host.begun(env)
    size = getattr(getattr(env, "made", env), "num_envs", None)
    return env, {} if size is None or isinstance(env, type) else {"n_envs": size}


def names_of(wrappers: Any) -> str:
    """Wrappers as a recipe keeps them: by name."""
    if isinstance(wrappers, str):
        return wrappers
    names = []
    for one in wrappers if isinstance(wrappers, tuple | list) else [wrappers]:
        name = one if isinstance(one, str) else f"{one.__module__}:{getattr(one, '__qualname__', type(one).__name__)}"
        if not isinstance(one, str) and (not name.rpartition(":")[2].isidentifier() or own(name) is not one):
            raise RecipeError(f"the wrapper {name} cannot be found by its name: use it in the function that makes env")
        names.append(name)
    return ",".join(names)


def look_at_copies(recipe: Recipe, env: Any, program: Any) -> None:
    """An environment's object is stepped itself where one batch of its size will do: elsewhere say that copies are, and
    refuse before training what cannot be evaluated."""
    inner = getattr(program, "inner", program)
    if not isinstance(inner, HostProgram):
        return
    name, used = registry.env_id(env), host.USED.get(id(env)) is env
    if recipe.eval_every != 0:
        try:
            inner.judge()
        except (ValueError, RuntimeError) as error:
            program.close()
            raise RecipeError(f"{name} cannot be evaluated during training, set eval_every=0. {error}") from error
    if not used:
        note(f"{name} itself is not stepped: training makes {recipe.n_envs} copies of it")


def proceed(
    run: Run,
    *,
    callback: loop.Callback | None = None,
    tensorboard: bool = True,
    wandb: str | None = None,
    progress: bool = False,
) -> Run:
    """Train a run to the end of its budget, and draw its picture."""
    fit = run._fit
    if callback is not None and not callable(callback):
        raise RecipeError(f"callback is a {type(callback).__name__}: give a function of one log row")
    with Progress(run.recipe.total_timesteps, sys.stderr, quiet=not progress) as bar:

        def both(row: dict[str, Any]) -> Any:
            bar(row)
            return None if callback is None else callback(row)

        try:
            if not fit.finished:
                loop.fit(fit, callback=both, tensorboard=tensorboard, wandb=wandb)
        finally:
            fit.program.close()
            if fit.directory is not None and fit.directory.path.exists() and isinstance(fit.program, AsyncProgram):
                add_report(fit.directory.path / "workers.json", fit.program.report())
    run._checkpoint = "best"
    key = "eval/mean_reward" if run.recipe.collect == "dataset" else "rollout/ep_rew_mean"
    if run.path is not None and any(np.isfinite(row.get(key, np.nan)).any() for row in fit.history):
        run.plot(key=key)
    return run


def add_report(path: Path, report: dict[str, Any]) -> None:
    """One more start of a run in the list of its workers' reports."""
    starts = json.loads(path.read_text()) if path.exists() else []
    path.write_text(json.dumps([*starts, report], indent=1))


def resume(
    path: str | os.PathLike,
    *,
    env: Any = None,
    model: Any = None,
    callback: loop.Callback | None = None,
    tensorboard: bool = True,
    wandb: str | None = None,
    progress: bool = False,
    **options: Any,
) -> Run:
    """Go on where a run was last saved. In a pure world the result is, bit for bit, that of a run that was never
    stopped; environments on the host begin new episodes, since no file can hold them.

    ``total_timesteps`` may be raised, and ``stop_reward`` changed (None: no such end), and so may the number of
    asynchronous ``workers``, where they run (``address``, ``shards``, ``max_staleness``), and patience with them
    (``max_restarts``, ``worker_timeout``, ``env_timeout``): none of them can alter what was learned so far. Nothing
    else of the recipe may change.
    """
    run = reopen(path, env=env, model=model, **options)
    return proceed(run, callback=callback, tensorboard=tensorboard, wandb=wandb, progress=progress)


def reopen(path: str | os.PathLike, *, env: Any = None, model: Any = None, **options: Any) -> Run:
    """A run where it was last saved, or at its beginning if it was killed before that: the first half of
    :func:`resume`."""
    refused = sorted(set(options) - set(CHANGEABLE))
    if refused:
        raise RecipeError(
            f"a resumed run keeps its recipe: {refused[0]} cannot change, only {', '.join(CHANGEABLE)} can"
        )
    enable_compilation_cache()
    directory = RunDirectory.open(path)
    stored = stored_recipe(directory)
    if stored.algo == CLONE.algo:
        raise RecipeError(
            f"{path} is a clone: go on imitating with policygrad clone --resume {path}, or by policy gradient with "
            f"policygrad train {stored.env} --init-from {path}"
        )
    recipe = replace(stored, **options)
    if recipe.lr_schedule == "linear" and recipe.total_timesteps != stored.total_timesteps:
        raise RecipeError(
            "total_timesteps cannot change with lr_schedule=linear: the learning rate falls to zero at the budget's "
            "end, so it would be another run; start a new one"
        )
    if (recipe.workers > 0) != (stored.workers > 0):
        raise RecipeError(
            f"a run with workers={stored.workers} cannot go on with workers={recipe.workers}: one process keeps its "
            "environments in the checkpoint, and workers do not; start a new run"
        )
    if recipe.collect == "dataset" and recipe.data != IN_MEMORY:
        old.require_same_data(directory, recipe)
    program = program_of(recipe, stored_env(recipe, env), model, stored_groups(directory))
    fit = loop.resume(program, directory) if directory.last.exists() else loop.start(program, directory)
    fit.history.extend(stored_history(directory, recipe, fit.env_steps))
    if not fit.finished:
        directory.write_recipe(recipe.to_dict())
    return Run(fit, checkpoint="last")


def load(path: str | os.PathLike, *, env: Any = None, model: Any = None, checkpoint: str = "best") -> Run:
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
    enable_compilation_cache()
    directory = RunDirectory.open(path)
    recipe = stored_recipe(directory)
    program = program_of(recipe, stored_env(recipe, env), model, stored_groups(directory))
    host.USED.pop(id(env), None)  # it was only looked at
    try:
        fit = loop.resume(program, directory)
    except CheckpointError:
        if checkpoint == "last" or not directory.best.exists():
            raise
        fit = loop.best_alone(program, directory)  # the best policy needs no other file
    fit.history.extend(stored_history(directory, recipe, fit.env_steps))
    return Run(fit, checkpoint=checkpoint)


def stored_groups(directory: RunDirectory) -> int | None:
    """The groups of seeds of a saved run; None: it has not saved any."""
    try:
        return read_meta(directory.last).get("groups")
    except (CheckpointError, OSError):
        return None


def stored_recipe(directory: RunDirectory) -> Recipe:
    """The recipe of a run. ``recipe.json`` can be edited by anyone, so the checkpoints' own word is asked too."""
    recipe = Recipe.from_dict(directory.read_recipe())
    for file in (directory.last, directory.best):
        try:
            trained = Recipe.from_dict(read_recipe(file)) if file.exists() else recipe
        except CheckpointError:  # whoever needs this file will say so
            continue
        for name in (item.name for item in fields(Recipe) if item.name not in CHANGEABLE):
            here, there = getattr(recipe, name), getattr(trained, name)
            if here != there:
                raise RunError(
                    f"{directory.recipe} says {name}={here!r}, and {file.name} was trained with {name}={there!r}: "
                    "put that back"
                )
    return recipe


def is_object(recipe: Recipe) -> bool:
    """Whether a run was trained on an environment object, whose class is all that its recipe names."""
    return recipe.env.isidentifier() and recipe.env not in registry.ENTRIES


def stored_env(recipe: Recipe, env: Any) -> Any:
    """The environment of a stored run. An object has left no more than the name of its class."""
    if env is None and is_object(recipe):
        raise RunError(
            f"this run was trained on an environment object, of the class {recipe.env}: load it in Python, with env=..."
        )
    return recipe.env if env is None else env


def program_of(
    recipe: Recipe, env: Any, model: Any, groups: int | None = None, dataset: Dataset | None = None
) -> AnyProgram:
    """The program of a recipe on an environment (an id or an object).

    Args:
        model: of the user's own, where the recipe says so; it is looked at first.
        groups: of seeds, as many as there were before.
    """
    one_device_per_core()
    if isinstance(env, type) and not registry.is_host(env):
        env = env()
    if recipe.policy == "own" and model is None:
        raise RecipeError(
            "policy='own' is a model of your own, which no file can hold: pass it in Python, with model=..."
        )
    if recipe.policy != "own" and model is not None:
        raise RecipeError(f"this run has the built-in model {recipe.policy!r}: drop model=")
    inner = synchronous(recipe, env, model, groups)
    if recipe.collect == "dataset":
        return old.on_data(inner, partial(data_of, recipe, dataset))
    if recipe.workers == 0:
        return inner
    evaluate = loop.make_evaluation(inner)
    if recipe.engine == "ray":
        from policygrad.run.ray_workers import make_ray_program  # late: most runs have no workers

        where: dict[str, Any] = {"address": recipe.address, "mode": recipe.ray_mode, "shards": recipe.shards}
        return make_ray_program(recipe, env, model, inner, evaluate, **where, max_staleness=recipe.max_staleness)
    from policygrad.run.workers import make_async_program

    return make_async_program(recipe, env, model, inner, evaluate)


def refuse_inside_a_worker() -> None:
    """A process that starts runs its script again, up to ``if __name__ == "__main__":``. Here that is missing, and the
    main process says so."""
    if current_process().name.startswith("policygrad-worker"):
        sys.exit(1)


def refuse_model_options(options: dict[str, Any]) -> None:
    """``model=`` comes with everything that these would choose."""
    for name in options:
        if name in OF_BUILT_IN_MODELS:
            raise RecipeError(f"{name} belongs to the built-in models, and model= brings your own: drop one of the two")


def stored_history(directory: RunDirectory, recipe: Recipe, until: np.ndarray) -> list[dict[str, Any]]:
    """The rows of ``metrics.csv`` up to ``until`` (``[seeds]`` steps), one per log point with its seeds side by
    side."""
    from policygrad.run.record import STEP, read_metrics

    if not directory.metrics.exists():
        return []
    table = read_metrics(directory.metrics)
    rows = [(table["seed"] == recipe.seed + i) & (table[STEP] <= until[i]) for i in range(recipe.seeds)]
    per_seed = [{key: column[chosen] for key, column in table.items()} for chosen in rows]
    n = max(len(columns[STEP]) for columns in per_seed)
    pad = lambda x: np.concatenate([x.astype(float), np.full(n - len(x), np.nan)])  # noqa: E731
    joined = {key: np.stack([pad(columns[key]) for columns in per_seed], axis=1) for key in table if key != "seed"}
    return [{key: column[i] for key, column in joined.items()} for i in range(n)]


def evaluate(
    policy: Any,
    env: Any,
    *,
    episodes: int = 100,
    deterministic: bool = True,
    seed: int = 1_000_003,
    max_episode_steps: int | None = None,
) -> Evaluation:
    """Play whole episodes with a policy (or a run's first one).

    Args:
        policy: a :class:`Policy` or a :class:`Run`.
        env: an id (``gym:CartPole-v1`` is the real Gymnasium), which gets the wrappers and options of a run on
            Gymnasium's; or an environment, which is stepped itself if no training steps it.
        deterministic: the mode of π, or samples.
        max_episode_steps: time limit in place of the environment's own; for a run, the one it was trained with. Host
            environments that are made already keep theirs. Where there is none, an episode is cut after 10,000 steps.

    Returns:
        returns and lengths, with ``mean`` and a 95 % bootstrap ``interval`` over episodes.
    """
    if not 0 <= seed < 2**31:
        raise RecipeError(f"seed must be in [0, 2147483647], not {seed!r}")
    options: dict[str, Any] = {}
    if isinstance(policy, Run):
        limit, options = policy.recipe.max_episode_steps, carried(policy, env)
        policy, max_episode_steps = policy.policy, limit if max_episode_steps is None else max_episode_steps
    made = make_for(env, episodes, max_episode_steps, options)
    require_same_spaces(policy, made)
    if not registry.is_host(made):
        from policygrad.envs.memory import remember

        stream = autoreset(remember(made) if policy.remembers else made, max_episode_steps)
        return evaluate_pure(policy.model, stream, episodes, seed=seed, deterministic=deterministic)
    try:
        found: Any = evaluate_host(policy, made, episodes, seed=seed, deterministic=deterministic)
        return found
    finally:
        if isinstance(env, str):
            made.close()


def carried(run: Run, env: Any) -> dict[str, Any]:
    """The wrappers and options that an id gets from a run on Gymnasium's environments, or the run's own pure world:
    without them its policy would see another one."""
    recipe = run.recipe
    if not isinstance(env, str) or not registry.is_host(run.env):
        return {"world": run.env} if isinstance(env, str) and env == recipe.env else {}
    told = ", ".join(filter(None, (recipe.wrapper, recipe.env_kwargs)))
    if env != recipe.env and told:
        hosted = registry.is_host(env) or registry.is_own(env)
        note(f"{env} {'gets' if hosted else 'is pure JAX and does without'} what the run had: {told}")
    return {"wrappers": recipe.wrappers, "env_kwargs": recipe.env_options}


def make_for(
    env: Any, episodes: int, max_episode_steps: int | None = None, options: dict[str, Any] | None = None
) -> Any:
    """The environment of an id, wide enough for so many episodes; an environment as it is.

    A pure environment gets its time limit from :func:`autoreset`, Gymnasium's get it here.
    """
    if not isinstance(episodes, int) or episodes < 1:
        raise RecipeError(f"episodes must be at least 1, and a whole number, not {episodes!r}")
    made = None
    if not registry.is_host(env):
        given = options or {}
        own_options = given.get("env_kwargs", {}) if isinstance(env, str) and registry.is_own(env) else {}
        made = given["world"] if "world" in given else registry.make(env, **own_options)
    if made is None or isinstance(made, VectorHost):  # a user's function says so only when it has made one
        if made is not None:
            made.close()
        if not isinstance(env, str) and isinstance(env, host.HostEnv):
            return env
        if host.is_gymnasium_object(env) and not isinstance(env, type) and id(env) not in host.USED:
            return host.make(env, training=False)
        limit = None if hasattr(env, "num_envs") else max_episode_steps
        return host.make(env, min(episodes, MAX_HOST_ENVS), training=False, max_episode_steps=limit, **(options or {}))
    return made


def require_same_spaces(policy: Policy, env: Any) -> None:
    """A policy plays where observations and actions have the shapes it knows."""
    for what, mine, theirs in (
        ("observation", policy.observation_space, env.observation_space),
        ("action", policy.action_space, env.action_space),
    ):
        if (
            type(mine) is not type(theirs)
            or mine.shape != theirs.shape
            or getattr(mine, "n", None) != getattr(theirs, "n", None)
        ):
            raise RecipeError(
                f"the policy's {what} space is {mine} and the environment's is {theirs}: "
                "evaluate it on an environment with the same spaces"
            )
