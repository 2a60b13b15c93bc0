"""The outer loop: play and learn up to the next mark, log, evaluate, save; until the budget is spent."""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from policygrad.parallel.hogwild import WorkerError
from policygrad.run.host import HostProgram
from policygrad.run.notes import note
from policygrad.run.offpolicy import left_the_data, lost, undone
from policygrad.run.policy import Policy
from policygrad.run.program import Program, RunState, means, one_seed
from policygrad.run.record import MetricsWriter, RunDirectory
from policygrad.run.workers import AsyncProgram
from policygrad.storage import checkpoint

SAVE_SECONDS = 10.0
"""Without evaluations the state is saved at the first mark after so many seconds."""
MAX_LOG_EVERY = 250_000
"""Longest log interval that is chosen by itself, in environment steps: a signal is answered at the next mark."""
AnyProgram = Program | HostProgram | AsyncProgram
Callback = Callable[[dict[str, Any]], Any]
"""Called with every log row (numbers, or one per seed as ``[seeds]``); returning False ends the run, as in
Stable-Baselines3. None goes on. Where it raises, the state is saved first."""


class TrainingDiverged(RuntimeError):
    """A reward or a gradient was not finite; the last good state is saved."""


class Interrupted(KeyboardInterrupt):
    """Stopped by the user; the state is saved. ``signum`` is the signal that asked for it."""

    def __init__(self, words: str, signum: int = signal.SIGINT):
        super().__init__(words)
        self.signum = signum


class Best:
    """The best parameters of each seed so far, by the mean return of the evaluations; of equals the last: where greedy
    actions are already right, sampled ones and V still learn."""

    def __init__(self, params: Any, seeds: int):
        self.params, self.reward, self.step = params, np.full(seeds, -np.inf), np.zeros(seeds, np.int32)

    def offer(self, params: Any, reward: np.ndarray, step: np.ndarray) -> bool:
        """Take what is no worse; whether anything was."""
        better = reward >= self.reward
        if len(better) == 1:
            self.params = params if better[0] else self.params
        else:
            flags = jnp.asarray(better)
            self.params = jax.tree.map(
                lambda new, old: jnp.where(flags.reshape(-1, *[1] * (new.ndim - 1)), new, old), params, self.params
            )
        self.reward, self.step = (
            np.where(better, reward, self.reward),
            np.where(better, step, self.step).astype(np.int32),
        )
        return bool(better.any())

    @property
    def tree(self) -> Any:
        return {"params": self.params, "reward": self.reward, "step": self.step}


@dataclass
class Fit:
    """A run between two marks: what the loop needs to go on, and what it shows."""

    program: AnyProgram
    state: RunState
    best: Best
    directory: RunDirectory | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False

    @property
    def env_steps(self) -> np.ndarray:
        """``[seeds]`` environment steps so far."""
        return np.asarray(self.state.env_steps).reshape(-1)

    def save(self) -> None:
        """The whole state, atomically."""
        if self.directory is not None:
            meta = {"env_steps": self.env_steps.tolist(), "finished": self.finished, "groups": self.program.groups}
            state = self.program.saved(self.state)
            checkpoint.save(self.directory.last, state, recipe=self.program.recipe.to_dict(), meta=meta)

    def discard(self) -> None:
        """Remove a run's folder that holds no checkpoint: nobody could go on from it."""
        if self.directory is not None and not self.directory.last.exists():
            shutil.rmtree(self.directory.path, ignore_errors=True)

    def save_best(self) -> None:
        if self.directory is not None:
            checkpoint.save(
                self.directory.best,
                self.best.tree,
                recipe=self.program.recipe.to_dict(),
                meta={"reward": self.best.reward.tolist()},
            )


def seed_keys(first: int, seeds: int) -> Any:
    """The random keys of a run: one key, or ``[seeds]``. Seed s always starts from ``key(s)``."""
    keys = [jax.random.key(first + i) for i in range(seeds)]
    return keys[0] if seeds == 1 else jnp.stack(keys)


def start(program: AnyProgram, directory: RunDirectory | None = None) -> Fit:
    """A run at its beginning."""
    state = program.init(seed_keys(program.recipe.seed, program.recipe.seeds))
    return Fit(program, state, Best(state.learner.params, program.recipe.seeds), directory)


def resume(program: AnyProgram, directory: RunDirectory) -> Fit:
    """A run where it was last saved.

    Raises:
        CheckpointError: a checkpoint that cannot be used.
    """
    keys = seed_keys(program.recipe.seed, program.recipe.seeds)
    state = checkpoint.load(directory.last, program.like(keys))
    finished = bool(checkpoint.read_meta(directory.last).get("finished"))
    best = Best(state.learner.params, program.recipe.seeds)
    if directory.best.exists():
        loaded = checkpoint.load(directory.best, best.tree)
        best.params, best.reward, best.step = loaded["params"], np.asarray(loaded["reward"]), np.asarray(loaded["step"])
    run = Fit(program, state, best, directory)
    run.finished = bool(run.env_steps.min() >= program.recipe.total_timesteps) or (finished and reached_stop(run))
    return run


def best_alone(program: AnyProgram, directory: RunDirectory) -> Fit:
    """A saved run of which only the best policy can be read: at its beginning, with that."""
    run = start(program, directory)
    loaded = checkpoint.load(directory.best, run.best.tree)
    run.best.params, run.best.reward, run.best.step = (loaded[name] for name in ("params", "reward", "step"))
    run.best.reward, run.best.step = np.asarray(run.best.reward), np.asarray(run.best.step)
    return run


def fit(run: Fit, *, callback: Callback | None = None, tensorboard: bool = True, wandb: str | None = None) -> Fit:
    """Train ``run`` to the end of its budget, in place.

    Raises:
        TrainingDiverged: a non-finite reward or gradient; names the step.
        Interrupted: Ctrl-C or a termination signal; the state was saved first.
    """
    with interruptible() as stop:
        play_and_learn(run, stop, callback, tensorboard, wandb)
    return run


def play_and_learn(
    run: Fit, stop: "Stop", callback: Callback | None, tensorboard: bool, wandb: str | None = None
) -> None:
    """The loop of :func:`fit`. ``stop`` is looked at after each mark; on the host, where a mark may be minutes away,
    after each update."""
    recipe, seeds = run.program.recipe, run.program.recipe.seeds
    advance: Callable = run.program.advance
    if not isinstance(run.program, Program):
        advance = partial(run.program.advance, stop=stop.is_set)
    evaluate = make_evaluation(run.program)
    if isinstance(run.program, HostProgram):
        evaluate = partial(run.program.evaluate, stop=stop.is_set)
    elif isinstance(run.program, AsyncProgram) and isinstance(run.program.inner, HostProgram):
        evaluate = partial(run.program.inner.evaluate, stop=run.program.watched(stop.is_set))
    log_every = recipe.log_every or max(1, min(recipe.total_timesteps // 100, MAX_LOG_EVERY))
    eval_every = max(1, recipe.total_timesteps // 20) if recipe.eval_every is None else recipe.eval_every
    writer = (
        None
        if run.directory is None
        else MetricsWriter(run.directory, range(recipe.seed, recipe.seed + seeds), tensorboard=tensorboard, wandb=wandb)
    )
    if writer is not None:
        writer.truncate_after(run.env_steps)
    beside = None
    if eval_every and not run.finished and isinstance(getattr(run.program, "inner", run.program), Program):
        beside = compile_beside(evaluate, run.state)
    saved, clock, done = time.monotonic(), time.monotonic(), int(run.env_steps.sum())
    starting = run.program.starting
    try:
        while not run.finished:
            before = run.env_steps
            mark = next_mark(int(before.min()), log_every, eval_every, recipe.total_timesteps)
            with keeping(run):
                state, stats = advance(run.state, jnp.int32(mark))
            row: dict[str, Any] = {name: x.reshape(seeds) for name, x in means(stats).items()}
            check_finite(run, state)
            gone = lost(recipe, row)
            if gone.any():
                state = undone(recipe, gone, state, run.state)
            run.state = state
            if stop.signum is not None and (run.env_steps == before).all():  # nothing to log
                run.save()
                raise Interrupted(stopped_words(run), stop.signum)
            now = time.monotonic()
            spent = now - clock - (run.program.starting - starting)  # compiling is no playing
            row["time/fps"] = (int(run.env_steps.sum()) - done) / max(spent, 1e-9)
            clock, done, starting = now, int(run.env_steps.sum()), run.program.starting
            row |= run.program.shares()
            run.finished = bool(run.env_steps.min() >= recipe.total_timesteps)
            if gone.all():
                run.finished = True
                note(left_the_data(recipe, row, before))
            due = eval_every and (run.finished or crossed(before, run.env_steps, eval_every))
            if due:
                if beside is not None:
                    beside.join()
                with keeping(run):
                    row["eval/mean_reward"] = evaluate(run.state)
                if run.best.offer(run.state.learner.params, row["eval/mean_reward"], run.env_steps):
                    run.save_best()
                run.finished = run.finished or reached_stop(run)
            if recipe.video_every and run.directory is not None and crossed(before, run.env_steps, recipe.video_every):
                try:
                    film_now(run)
                except Exception as error:  # the run is worth more than its film
                    note(f"no film at step {int(run.env_steps.min()):,}: {error}")
            if writer is not None:
                writer.write(row, run.env_steps)
            run.history.append({"time/total_timesteps": run.env_steps, **row})
            if callback is not None and not goes_on(run, callback):
                run.finished = True
            if run.finished or due or stop.is_set() or time.monotonic() - saved > SAVE_SECONDS:
                run.save()
                saved = time.monotonic()
            if stop.signum is not None and not run.finished:
                raise Interrupted(stopped_words(run), stop.signum)
    finally:
        if beside is not None:
            beside.join()
        if writer is not None:
            writer.close()


def compile_beside(evaluate: Callable[[RunState], np.ndarray], state: RunState) -> threading.Thread:
    """Compile the evaluation on another core while the first update is compiled here: a start is seconds shorter."""

    def once() -> None:
        with suppress(Exception):  # whatever is wrong is said where its result is wanted
            evaluate(state)

    thread = threading.Thread(target=once, daemon=True)
    thread.start()
    return thread


def film_now(run: Fit) -> None:
    """A greedy episode of the first seed as it is now: ``videos/step-<n>.gif`` in the run's folder."""
    from policygrad.run.video import film  # late: most runs draw no pictures

    assert run.directory is not None
    recipe, env = run.program.recipe, run.program.raw_env
    model = run.program.model(run.state)
    policy = Policy(model, env.observation_space, env.action_space, remembers=recipe.remembers)
    out = run.directory.path / "videos" / f"step-{int(run.env_steps.min())}.gif"
    film(policy, recipe, out, episodes=1, seed=recipe.seed, deterministic=True)


@contextmanager
def keeping(run: Fit) -> Iterator[None]:
    """Where a worker's fault ends a run inside: save what the others have learned, and say where."""
    try:
        yield
    except WorkerError as error:
        assert isinstance(run.program, AsyncProgram)
        with suppress(WorkerError):  # the newest parameters may be gone with their server
            state, _ = run.program.look(run.state)
            run.state = state if (np.asarray(state.first_bad) < 0).all() else run.state
        run.save()
        kept = "" if run.directory is None else f", saved in {run.directory.path}: --resume goes on"
        raise WorkerError(f"{error}; stopped at {int(run.env_steps.min()):,} steps{kept}") from None


def crossed(before: np.ndarray, after: np.ndarray, every: int) -> bool:
    """Whether the slowest seed has passed a multiple of ``every``; one update may pass several."""
    return int(after.min()) // every > int(before.min()) // every


def goes_on(run: Fit, callback: Callback) -> bool:
    """What the callback answers to the last row."""
    try:
        answer = callback(run.history[-1])
        return answer is None or bool(answer)
    except BaseException:
        run.save()
        raise


def reached_stop(run: Fit) -> bool:
    """Whether every seed has evaluated at least as high as ``stop_reward``."""
    stop_reward = run.program.recipe.stop_reward
    return stop_reward is not None and bool(run.best.reward.min() >= stop_reward)


def next_mark(steps: int, log_every: int, eval_every: int, total: int) -> int:
    """The next multiple of either interval, or the end of the budget."""
    marks = [(steps // every + 1) * every for every in (log_every, eval_every) if every]
    return min(*marks, total)


def check_finite(run: Fit, state: RunState) -> None:
    """Stop before a broken state replaces the last good one."""
    first_bad = np.asarray(state.first_bad).reshape(-1)
    if (first_bad < 0).all():
        return
    seed = int(np.argmax(first_bad >= 0))
    run.save()
    where = f" of seed {run.program.recipe.seed + seed}" if len(first_bad) > 1 else ""
    kept = f"; the state before it is kept in {run.directory.last}" if run.directory is not None else ""
    raise TrainingDiverged(
        f"a reward or a gradient was not finite in the update after environment step {int(first_bad[seed])}{where}: "
        f"check the environment's rewards, or lower learning_rate{kept}"
    )


def stopped_words(run: Fit) -> str:
    steps = int(run.env_steps.min())
    kept = f"; saved in {run.directory.path}" if run.directory is not None else ""
    return f"stopped at {steps:,} of {run.program.recipe.total_timesteps:,} steps{kept}"


def make_evaluation(program: AnyProgram) -> Callable[[RunState], np.ndarray]:
    """``state -> [seeds]`` mean greedy returns, on random numbers of their own: a function of the seed and of the
    steps so far."""
    if not isinstance(program, Program):
        return program.evaluate
    keys = seed_keys(program.recipe.seed, program.recipe.seeds)
    return lambda state: np.asarray(program.judge(state.learner, keys, state.env_steps)).reshape(-1)


class Stop:
    """Which signal asked the loop to end; None: none has."""

    signum: int | None = None

    def is_set(self) -> bool:
        return self.signum is not None


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Inside, Ctrl-C and a termination signal only leave a note, so that a mark is never left half done.

    A second one raises at once; the command line does not wait for that, and ends.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(signum: int, frame: Any) -> None:
        if stop.is_set():
            raise Interrupted("stopped at once; what was saved before stands", signum)
        stop.signum = signum

    old = {signum: signal.signal(signum, ask) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for signum, handler in old.items():
            signal.signal(signum, handler)


def best_model(run: Fit, seed: int = 0) -> Any:
    """The best model of one seed; the last one where there was no evaluation."""
    recipe, state = run.program.recipe, run.state.learner
    params = run.best.params if np.isfinite(run.best.reward[seed]) else state.params
    return run.program.learner.model(one_seed(recipe, state._replace(params=params), seed))


__all__ = ["Best", "Fit", "Interrupted", "TrainingDiverged", "best_model", "fit", "resume", "start"]
