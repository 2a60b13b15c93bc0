"""DAgger: the clone plays, and the expert says what it would have done. Ross, Gordon & Bagnell (2011), "A reduction of
imitation learning and structured prediction to no-regret online learning", algorithm 3.1.

A clone that errs once is where no demonstration was, errs again, and loses O(εT²) over T steps; trained on the states
that it reaches itself it loses O(εT).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from policygrad.envs import registry
from policygrad.envs.core import Env, autoreset
from policygrad.envs.stateful import HostStep
from policygrad.run.api import MAX_HOST_ENVS, Run
from policygrad.run.evaluate import NO_LIMIT
from policygrad.run.policy import Policy
from policygrad.run.recording import episodes_of
from policygrad.storage.datasets import Dataset, join, select
from policygrad.types import Trajectory


def gather(run: Run, clone: Policy, expert: Policy, *, beta: float, episodes: int, seed: int) -> Dataset:
    """Whole episodes in the run's environment; the action is a pair ``(taken, shown)``.

    At each step the expert's greedy action is taken with probability ``beta``, else the clone's, which is sampled.
    """
    width = min(episodes, MAX_HOST_ENVS)
    host = registry.is_host(run.env)
    program: Any = run.program
    env: Any = program.make_env(width, False) if host else Stepped(run.env, width, run.recipe.max_episode_steps)
    found: list[Dataset] = []
    done, rng = 0, np.random.default_rng(seed)
    clone.seed(seed)
    try:
        while done < episodes:
            part = one_each(env, clone, expert, beta, rng)
            found.append(select(part, range(min(part.episodes, episodes - done))))
            done += found[-1].episodes
    finally:
        if host:
            env.close()
    return join(found)._replace(log_mu=None, about={"env": run.recipe.env, "beta": beta, "seed": seed})


def one_each(env: Any, clone: Policy, expert: Policy, beta: float, rng: np.random.Generator) -> Dataset:
    """One whole episode in each environment."""
    n = env.num_envs
    obs, mine, theirs = env.reset(int(rng.integers(2**31))), None, None
    start, reward, alive = np.ones(n, bool), np.zeros(n), np.ones(n, bool)
    final: Any = None
    rows: list[tuple] = []
    while alive.any():
        now: dict[str, Any] = {"episode_start": start, "reward": reward}
        own, mine = clone.act(obs, deterministic=False, state=mine, **now)
        shown, theirs = expert.act(obs, deterministic=True, state=theirs, **now)
        taken = chosen(rng.random(n) < beta, shown, own)
        mine, theirs = mine._replace(action=taken), theirs._replace(action=taken)
        step = env.step(taken)
        over, mask = (step.terminated | step.truncated) & step.valid, alive & step.valid
        rows.append((obs, (taken, shown), np.where(mask, step.reward, 0), over & step.terminated, mask))
        final = step.successor if final is None else chosen(alive & over, step.successor, final)
        alive = alive & ~over
        obs, start, reward = step.obs, over | ~step.valid, np.where(over, 0, step.reward)
    obs, action, paid, ended, mask = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
    make: Any = Trajectory  # of NumPy arrays; what only a learner needs is left out
    t = make(
        obs=obs, action=action, reward=paid.astype(np.float32), terminated=ended, truncated=None,
        log_mu=np.zeros(mask.shape, np.float32), time=None, start=None, mask=mask, carry=None,
        cut_obs=jax.tree.map(lambda x: x[None], final),
    )  # fmt: skip
    return episodes_of(t)


def chosen(flag: np.ndarray, yes: Any, no: Any) -> Any:
    """``yes`` where the flag of an environment is set."""
    return jax.tree.map(lambda a, b: np.where(flag.reshape(-1, *[1] * (np.ndim(a) - 1)), a, b), yes, no)


class Stepped:
    """A pure world, stepped from outside as those on the host are."""

    def __init__(self, env: Env, num_envs: int, time_limit: int | None):
        limit = time_limit or env.time_limit or getattr(env, "horizon", None) or NO_LIMIT
        self.num_envs, self.stream = num_envs, autoreset(env, limit)
        self._begin = jax.jit(lambda key: jax.vmap(self.stream.reset)(self.stream.draw(key, (num_envs,))[1]))
        self._go = jax.jit(self._advance)

    def _advance(self, key: Array, state: Any, action: Any) -> tuple:
        key, step_key = jax.random.split(key)
        return key, *jax.vmap(self.stream.step)(self.stream.draw(step_key, (self.num_envs,)), state, action)

    def reset(self, seed: int) -> Any:
        self._key, begin_key = jax.random.split(jax.random.key(seed))
        self._state = self._begin(begin_key)
        return jax.tree.map(np.asarray, self._state.obs)

    def step(self, action: Any) -> HostStep:
        self._key, self._state, shown = self._go(self._key, self._state, jax.tree.map(jnp.asarray, action))
        s = jax.tree.map(np.asarray, shown)
        return HostStep(s.obs, s.successor, s.reward, s.terminated, s.truncated, np.ones(self.num_envs, bool))
