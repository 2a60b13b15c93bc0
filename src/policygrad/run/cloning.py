"""``pg.clone``: a policy from demonstrations, by maximum likelihood, in a run's folder like any other.

    run = pg.clone("cartpole.safetensors")                                  # runs/CartPole-v1/clone-1
    tuned = pg.train("CartPole-v1", "a2c", init_from=run.path)              # and on by policy gradient

Beside what every run has, the folder holds ``clone.json`` (the demonstrations, how they are divided and when to stop)
and, with DAgger, ``dagger-<i>.safetensors``: the episodes of each round.
"""

import json
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from policygrad.envs import registry
from policygrad.ladder.names import one_of
from policygrad.learn.imitation import epoch, likelihood
from policygrad.models.actor_critic import is_memoryless
from policygrad.run import train as loop
from policygrad.run.api import Run, load, program_of, refuse_inside_a_worker, stored_env, stored_history, stored_recipe
from policygrad.run.build import enable_compilation_cache
from policygrad.run.dagger import gather
from policygrad.run.demonstrations import (
    DUPLICATES,
    as_trajectory,
    at_home,
    env_of,
    paired,
    require_fit,
    split,
    without_leakage,
)
from policygrad.run.evaluate import NO_LIMIT
from policygrad.run.policy import Policy
from policygrad.run.recipes import CLONE, CLONE_FIELDS, Recipe, RecipeError, change
from policygrad.run.record import MetricsWriter, RunDirectory, RunError
from policygrad.storage import checkpoint, datasets
from policygrad.storage.checkpoint import write_atomically
from policygrad.storage.datasets import Dataset, fingerprint, join, select
from policygrad.storage.formats import read_dataset

SAVE_SECONDS = 10.0
MOST = 2**31 - 1


@dataclass(frozen=True)
class Cloning:
    """How a clone learns, in plain values: ``clone.json``.

    Raises:
        RecipeError: out of range; the message names the fix.
    """

    dataset: str = ""
    """Where the demonstrations are."""
    ignore_columns: tuple[str, ...] = ()
    validation: float = 0.1
    """Share of the episodes that is held out; 0: none, and no early stopping."""
    epochs: int = 200
    """Most passes over the demonstrations (with DAgger: in each round)."""
    patience: int = 10
    """Passes without a better held-out likelihood after which it stops."""
    batch_size: int = 256
    """Rows of a minibatch; of a policy with memory, whole episodes of about so many rows."""
    duplicates: str = "refuse"
    """Of identical episodes on both sides: refuse, drop the held-out ones, or keep them. An episode of DAgger's that is
    known goes to the side that has it, unless all are kept."""
    dagger: int = 0
    """Rounds in which the clone plays and the expert says what it would have done. Ross et al. (2011)."""
    expert: str = ""
    """The run of DAgger's expert."""
    episodes: int = 20
    """Episodes of a round."""
    beta: float = 0.5
    """In round i the expert acts with probability β_i = beta^i at each step; 0: never."""

    def __post_init__(self) -> None:
        whole = [(name, getattr(self, name)) for name in ("epochs", "patience", "batch_size", "episodes")]
        rules = (
            (not 0 <= self.validation < 1, f"validation must be at least 0 and less than 1, not {self.validation!r}"),
            (not 0 <= self.beta <= 1, f"beta must be in [0, 1], not {self.beta!r}"),
            (self.dagger < 0, f"dagger must be at least 0 rounds, not {self.dagger!r}"),
            (
                self.dagger > 0 and self.validation * self.episodes > 0 and self.episodes < 2,
                "episodes must be at least 2 in a round of dagger, for one is held out; or set validation=0",
            ),
            (self.dagger > 0 and not self.expert, "dagger needs an expert who says what to do: give expert (a run)"),
            (not self.dagger and bool(self.expert), "expert does nothing without dagger: give a number of rounds"),
            (
                self.duplicates not in DUPLICATES,
                f"unknown duplicates {self.duplicates!r}: choose one of {', '.join(DUPLICATES)}",
            ),
            *((value < 1, f"{name} must be at least 1, not {value!r}") for name, value in whole),
        )
        for broken, message in rules:
            if broken:
                raise RecipeError(message)


Tell = Callable[[dict[str, float]], Any]
"""Called with every epoch's row."""


def clone(
    dataset: str | os.PathLike | Dataset,
    env: Any = None,
    *,
    out: str | os.PathLike | None = "runs",
    path: str | os.PathLike | None = None,
    expert: Any = None,
    tell: Tell = lambda row: None,
    tensorboard: bool = True,
    **options: Any,
) -> Run:
    """Imitate demonstrations: gradient ascent on E_{τ^gt}[log p_θ(τ^gt)], whose gradient is the policy gradient with
    all weights 1.

        run = pg.clone("cartpole.safetensors")

    Args:
        dataset: what :func:`policygrad.read_dataset` reads, or a :class:`policygrad.Dataset`.
        env: an id or an environment; None: the dataset's own. Its spaces are the policy's.
        out, path: as in :func:`policygrad.train`; ``out=None`` keeps the run in memory.
        expert: DAgger's expert: a run, its folder, or a :class:`policygrad.Policy`.
        tell: called with every epoch's row.
        options: fields of :class:`Cloning` (``validation``, ``epochs``, ``patience``, ``batch_size``, ``duplicates``,
            ``dagger``, ``episodes``, ``beta``), and of :class:`policygrad.Recipe` those of the model, ``seed``,
            ``learning_rate``, ``optimizer``, ``max_grad_norm`` and those of the environment.

    Returns:
        the run; its policy is that of the best held-out likelihood, ``best_reward`` that likelihood's mean logarithm.

    Raises:
        RecipeError, DatasetError: demonstrations that do not fit the environment or the policy; identical episodes in
            the training and the held-out part.
        TrainingDiverged: a likelihood that is not finite.
        Interrupted: Ctrl-C; the state is saved, and :func:`reopen` goes on.
    """
    work = begin(dataset, env, out=out, path=path, expert=expert, **options)
    try:
        return work.learn(tell=tell, tensorboard=tensorboard)
    except BaseException:
        work.fit.discard()
        raise


def begin(
    dataset: str | os.PathLike | Dataset,
    env: Any = None,
    *,
    out: Any = "runs",
    path: Any = None,
    expert: Any = None,
    **options: Any,
) -> "Work":
    """A clone at its beginning, with its folder: the first half of :func:`clone`."""
    refuse_inside_a_worker()
    enable_compilation_cache()
    own = {item.name for item in fields(Cloning)}
    given = {name: options.pop(name) for name in list(options) if name in own}
    for option in options:
        one_of("option", option, [*own, *CLONE_FIELDS])
    name = "" if isinstance(dataset, Dataset) else os.fspath(dataset)
    cloning = Cloning(dataset=name, expert=name_of(expert), **given)
    data = dataset if isinstance(dataset, Dataset) else read_dataset(name, ignore_columns=cloning.ignore_columns)
    env, about = env_of(data, env, name)
    env_name = env if isinstance(env, str) else registry.env_id(env)
    total = min(MOST, cloning.epochs * data.rows)
    recipe = with_limit(change(CLONE, env=env_name, **{"total_timesteps": total} | about | options), env)
    fit = loop.start(program_of(recipe, env, None))
    work = Work(fit, cloning, data, policy_of(expert))
    fit.directory = RunDirectory.create_for(env_name, recipe.algo, out=out, path=path)
    if fit.directory is not None:
        fit.directory.write_recipe(recipe.to_dict())
        noted = asdict(cloning) | {"rows": data.rows, "fingerprint": fingerprint(data)}
        write_atomically(fit.directory.path / NOTES, (json.dumps(noted, indent=2) + "\n").encode())
    return work


NOTES = "clone.json"


def with_limit(recipe: Recipe, env: Any) -> Recipe:
    """A pure world without an end gets the one of evaluations: a clone plays whole episodes."""
    if recipe.max_episode_steps is not None or registry.is_host(env):
        return recipe
    made = registry.make(env, **recipe.env_options) if isinstance(env, str) else env
    endless = not registry.is_host(made) and made.time_limit is None and getattr(made, "horizon", None) is None
    return replace(recipe, max_episode_steps=NO_LIMIT) if endless else recipe


def reopen(path: str | os.PathLike, *, dataset: Dataset | None = None, env: Any = None, expert: Any = None) -> "Work":
    """A clone where it was last saved.

    Args:
        dataset, env, expert: the objects it learned from, where they were no names.

    Raises:
        RunError: no clone, or one whose demonstrations have changed.
    """
    enable_compilation_cache()
    directory = RunDirectory.open(path)
    notes = directory.path / NOTES
    if not notes.exists():
        raise RunError(f"{path} is no clone: go on with policygrad train --resume {path}")
    noted = json.loads(notes.read_text())
    rows, known = noted.pop("rows"), noted.pop("fingerprint", None)
    cloning = Cloning(**noted | {"ignore_columns": tuple(noted["ignore_columns"])})
    if dataset is None and not cloning.dataset:
        raise RunError(f"{path} learned from a dataset in memory, which no file holds: pass it in Python, as dataset=")
    data = read_dataset(cloning.dataset, ignore_columns=cloning.ignore_columns) if dataset is None else dataset
    if fingerprint(data) != known:
        raise RunError(
            f"{cloning.dataset or 'the dataset'} is not what {path} learned from ({rows:,} rows then, {data.rows:,} "
            "now): a clone keeps its demonstrations, so bring those back, or begin a new clone"
        )
    recipe = stored_recipe(directory)
    program = program_of(recipe, stored_env(recipe, env), None)
    fit = loop.resume(program, directory) if directory.last.exists() else loop.start(program, directory)
    fit.history.extend(stored_history(directory, recipe, fit.env_steps))
    work = Work(fit, cloning, data, policy_of(expert or cloning.expert or None))
    if directory.last.exists():
        meta = checkpoint.read_meta(directory.last)
        work.place, fit.finished = Place(**meta["clone"]), meta["finished"]
    return work


def name_of(expert: Any) -> str:
    """How ``clone.json`` calls an expert."""
    place = expert.path if isinstance(expert, Run) else expert
    if isinstance(place, str | os.PathLike):
        return os.fspath(place)
    return "" if expert is None else IN_MEMORY


IN_MEMORY = "(in memory)"


def policy_of(expert: Any) -> Policy | None:
    if expert == IN_MEMORY:
        raise RunError("the expert was a policy in memory, which no file holds: pass it in Python, as expert=")
    if isinstance(expert, str | os.PathLike):
        run = load(expert)
        run.program.close()
        return run.policy
    return expert.policy if isinstance(expert, Run) else expert


@dataclass(frozen=True)
class Place:
    """How far a clone has come."""

    round: int = 0
    """0: the demonstrations alone; from 1 on those of DAgger too."""
    epoch: int = 0
    """Passes of this round."""
    stale: int = 0
    """Passes since the held-out likelihood was best."""


class Work:
    """A clone between two epochs."""

    def __init__(self, fit: loop.Fit, cloning: Cloning, data: Dataset, expert: Policy | None):
        self.fit, self.cloning, self.expert, self.place = fit, cloning, expert, Place()
        self.run = Run(fit)
        require_fit(data, self.run.env)
        recipe = self.run.recipe
        train, held = split(data, cloning.validation, recipe.seed)
        train, held = without_leakage(data, train, held, cloning.duplicates)
        self.demonstrated = float(data.returns.mean())
        pairs = paired(data)
        self.train, self.held = select(pairs, train), select(pairs, held) if len(held) else None

    def learn(self, *, tell: Tell = lambda row: None, tensorboard: bool = True) -> Run:
        """All epochs of all rounds, or what is left of them."""
        fit, place = self.fit, self.place
        seed = self.run.recipe.seed
        writer = None
        if fit.directory is not None:
            writer = MetricsWriter(fit.directory, [seed], tensorboard=tensorboard)
            writer.truncate_after(fit.env_steps)
        try:
            with loop.interruptible() as stop:
                for i in range(1, place.round + 1):  # of a clone that goes on
                    self.add(i)
                while not fit.finished:
                    self.round(stop, writer, tell)
                    if self.place.round == self.cloning.dagger:
                        fit.finished = True
                    else:
                        best = fit.state.learner._replace(params=fit.best.params)
                        fit.state = fit.state._replace(learner=best)
                        self.add(self.place.round + 1)
                        self.place = Place(self.place.round + 1)
                    self.save()
                self.warn_if_worse()
        finally:
            fit.program.close()
            if writer is not None:
                writer.close()
        self.run._checkpoint = "best"
        if fit.directory is not None and fit.history:
            self.run.plot(key=f"{'eval' if self.held is not None else 'train'}/nll")
        return self.run

    @property
    def batch(self) -> int:
        """Columns of a minibatch: rows, or with memory whole episodes."""
        size = self.cloning.batch_size
        memoryless = is_memoryless(self.run.policy.model)
        return size if memoryless else max(1, round(size / self.train.length.mean()))

    def round(self, stop: loop.Stop, writer: MetricsWriter | None, tell: Tell) -> None:
        """Epochs until the held-out likelihood has not become better for a while."""
        fit, cloning, recipe = self.fit, self.cloning, self.run.recipe
        learner, model = fit.program.learner, self.run.policy.model
        prepare = partial(as_trajectory, env=self.run.env, recipe=recipe, model=model)
        train, held = prepare(self.train), None if self.held is None else prepare(self.held)
        batch = self.batch
        rows, sides = self.train.rows, {"train": train} | ({} if held is None else {"eval": held})
        pass_over = epoch(learner, batch)

        @jax.jit
        def one(state: Any, sides: dict[str, Any], key: Any) -> tuple[Any, dict[str, Any]]:
            state = pass_over(state, sides["train"], key)
            return state, {side: likelihood(learner.model(state), t, batch) for side, t in sides.items()}

        if self.place == Place():
            observe = jax.jit(learner.observe)  # the normaliser is fitted to the demonstrations
            fit.state = fit.state._replace(learner=observe(fit.state.learner, train))
        if self.place.epoch == 0:
            fit.best.reward = np.full(1, -np.inf)  # that of the round before was for other episodes
        key = jax.random.fold_in(jax.random.key(recipe.seed), self.place.round)
        saved = time.monotonic()
        while self.place.epoch < cloning.epochs and (held is None or self.place.stale < cloning.patience):
            began = time.monotonic()
            state, found = one(fit.state.learner, sides, jax.random.fold_in(key, self.place.epoch))
            row = {f"{side}/{name}": float(x) for side, told in found.items() for name, x in told._asdict().items()}
            self.require_finite(row)
            steps = np.minimum(np.asarray(fit.state.env_steps, np.int64) + rows, MOST).astype(np.int32)
            fit.state = fit.state._replace(learner=state, env_steps=jnp.asarray(steps))
            row |= {"train/epoch": self.place.epoch + 1} | ({"train/round": self.place.round} if cloning.dagger else {})
            row = {name: x for name, x in row.items() if x == x}  # no accuracy where actions are no whole numbers
            score = np.array([-row["train/nll" if held is None else "eval/nll"]])
            better = bool(score[0] > fit.best.reward[0])
            if better:
                fit.best.offer(state.params, score, fit.env_steps)
            self.place = Place(self.place.round, self.place.epoch + 1, 0 if better else self.place.stale + 1)
            row["time/fps"] = rows / max(time.monotonic() - began, 1e-9)
            self.log(row, writer, tell)
            if stop.is_set() or time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
            if stop.signum is not None:
                kept = "" if fit.directory is None else f"; saved in {fit.directory.path}"
                raise loop.Interrupted(f"stopped after {self.place.epoch} epochs{kept}", stop.signum)

    def warn_if_worse(self) -> None:
        """Say so where the untrained policy explains the episodes better than the best clone."""
        fit, learner, judged = self.fit, self.fit.program.learner, self.train if self.held is None else self.held
        prepare = partial(as_trajectory, env=self.run.env, recipe=self.run.recipe, model=self.run.policy.model)
        state = jax.jit(learner.observe)(loop.start(fit.program).state.learner, prepare(self.train))
        untrained = -float(likelihood(learner.model(state), prepare(judged), self.batch).nll)
        if fit.best.reward[0] < untrained:
            warnings.warn(
                f"the clone explains the {'training' if self.held is None else 'held-out'} episodes worse than an "
                f"untrained policy ({fit.best.reward[0]:.4g} nats a step, untrained {untrained:.4g}): it diverged or "
                "overfits at once; lower learning_rate (--learning-rate), or record more episodes",
                stacklevel=3,
            )

    def add(self, i: int) -> None:
        """The episodes of DAgger's round ``i``: played, or read where they were played before."""
        fit, recipe = self.fit, self.run.recipe
        file = None if fit.directory is None else fit.directory.path / f"dagger-{i}.safetensors"
        if file is not None and file.exists():
            new = datasets.load(file)
        else:
            assert self.expert is not None
            new = gather(self.run, self.run.policy, self.expert, beta=self.cloning.beta**i,
                         episodes=self.cloning.episodes, seed=recipe.seed + 7919 * i)  # fmt: skip
            if file is not None:
                datasets.save(file, new)
        train, held = split(new, self.cloning.validation, recipe.seed + i)
        if self.held is not None and self.cloning.duplicates != "keep":
            train, held = at_home(new, train, held, self.train, self.held)
        self.train = join([self.train, select(new, train)])
        self.held = None if self.held is None else join([self.held, select(new, held)])

    def log(self, row: dict[str, float], writer: MetricsWriter | None, tell: Tell) -> None:
        if writer is not None:
            writer.write(row, self.fit.env_steps)
        steps = {"time/total_timesteps": self.fit.env_steps}
        self.fit.history.append(steps | {name: np.array([x]) for name, x in row.items()})
        tell(row)

    def save(self) -> None:
        """The whole state and the best policy."""
        fit = self.fit
        if fit.directory is None:
            return
        meta = {"env_steps": fit.env_steps.tolist(), "finished": fit.finished, "groups": fit.program.groups}
        meta["clone"] = asdict(self.place)
        state = fit.program.saved(fit.state)
        if np.isfinite(fit.best.reward).all():
            fit.save_best()
        checkpoint.save(fit.directory.last, state, recipe=self.run.recipe.to_dict(), meta=meta)

    def require_finite(self, row: dict[str, float]) -> None:
        if not np.isfinite([x for name, x in row.items() if name.endswith("nll")]).all():
            raise loop.TrainingDiverged(
                f"the likelihood was not finite in epoch {self.place.epoch + 1}: lower learning_rate, or look for "
                "observations far from all others"
            )
