"""How good is a policy: whole episodes, greedy or sampled, in pure worlds and on the real Gymnasium."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from policygrad.envs.core import Stream
from policygrad.models.actor_critic import initial_carry
from policygrad.run.notes import note
from policygrad.run.statistics import bootstrap_interval
from policygrad.types import Input

NO_LIMIT = 10_000
"""Episodes of an environment without a time limit are cut here."""


@dataclass(frozen=True)
class Evaluation:
    """Returns (undiscounted, on the environment's own scale) and lengths of whole episodes."""

    returns: np.ndarray
    lengths: np.ndarray
    deterministic: bool

    @property
    def mean(self) -> float:
        return float(self.returns.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the mean, over episodes."""
        low, high = bootstrap_interval(self.returns)
        return float(low), float(high)

    def to_dict(self) -> dict[str, Any]:
        low, high = self.interval
        return {
            "mean": self.mean,
            "std": float(self.returns.std()),
            "low": low,
            "high": high,
            "min": float(self.returns.min()),
            "max": float(self.returns.max()),
            "mean_length": float(self.lengths.mean()),
            "episodes": len(self.returns),
        }


def episode_returns(
    model: Any, stream: Stream, key: Array, n: int, deterministic: bool
) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
    """Undiscounted returns and lengths of n episodes, played side by side until the last one is over. Traceable."""
    reset_key, key = jax.random.split(key)
    start = jax.vmap(stream.reset)(stream.draw(reset_key, (n,))[1])
    limit = stream.time_limit or NO_LIMIT

    def distributions(now: Any, carry: Any) -> tuple[Any, Any]:
        output, carry = jax.vmap(lambda now, carry: model(Input(now.obs, now.time, now.time == 0), carry))(now, carry)
        return output.distribution, carry

    abstract = jax.eval_shape(
        lambda now, carry: jax.tree.map(lambda x: x[0], distributions(now, carry)[0]), start, initial_carry(model, (n,))
    )

    def step(loop: tuple) -> tuple:
        t, now, carry, alive, ret, length = loop
        env_key, action_key = jax.random.split(jax.random.fold_in(key, t))
        distribution, carry = distributions(now, carry)
        if deterministic:
            action = jax.vmap(lambda d: d.mode())(distribution)
        else:
            action = jax.vmap(lambda d, noise: d.sample(noise))(distribution, abstract.draw(action_key, (n,)))
        now, shown = jax.vmap(stream.step)(stream.draw(env_key, (n,)), now, action)
        ret, length = ret + jnp.where(alive, shown.reward, 0), length + alive
        return t + 1, now, carry, alive & ~(shown.terminated | shown.truncated), ret, length

    loop = (jnp.zeros((), jnp.int32), start, initial_carry(model, (n,)), jnp.ones(n, bool), jnp.zeros(n), jnp.zeros(n))
    loop = jax.lax.while_loop(lambda loop: (loop[0] < limit) & jnp.any(loop[3]), step, loop)
    return loop[4], loop[5]


_jitted_returns: Any = eqx.filter_jit(episode_returns)


def evaluate_pure(
    model: Any, stream: Stream, episodes: int, *, seed: int = 0, deterministic: bool = True
) -> Evaluation:
    """``episodes`` episodes in a pure world."""
    returns, lengths = _jitted_returns(model, stream, jax.random.key(seed), episodes, deterministic)
    return Evaluation(np.asarray(returns), np.asarray(lengths), deterministic)


def evaluate_host(
    policy: Any,
    env: Any,
    episodes: int,
    *,
    seed: int = 0,
    deterministic: bool = True,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation | None:
    """``episodes`` episodes of a batch of host environments; each environment plays its share, so that short episodes
    are not favoured. Where nothing ends an episode it is cut after ``NO_LIMIT`` steps (or the time limit, if that is
    longer) and counts as it is; what follows is the next one.

    Args:
        policy: has ``act(obs, deterministic=, state=, episode_start=, reward=) -> (action, state)``.
        stop: looked at between steps; None is returned where it says so.
    """
    limit = max(getattr(env, "time_limit", None) or 0, NO_LIMIT)
    quota = np.full(env.num_envs, episodes // env.num_envs) + (np.arange(env.num_envs) < episodes % env.num_envs)
    obs, state = env.reset(seed), None
    policy.seed(seed)
    start, reward = np.ones(env.num_envs, bool), np.zeros(env.num_envs)
    ret, length = np.zeros(env.num_envs), np.zeros(env.num_envs)
    returns: list[float] = []
    lengths: list[float] = []
    while quota.any():
        if stop():
            return None
        action, state = policy.act(obs, deterministic=deterministic, state=state, episode_start=start, reward=reward)
        shown = env.step(action)
        ret, length = ret + np.where(shown.valid, shown.reward, 0), length + shown.valid
        cut = length >= limit
        if cut.any():
            name = getattr(env, "id", type(env).__name__)
            note(f"{name}: an evaluation cuts episodes after {limit:,} steps; set max_episode_steps to change that")
        over = (shown.terminated | shown.truncated | cut) & shown.valid
        for i in np.flatnonzero(over & (quota > 0)):
            returns.append(float(ret[i]))
            lengths.append(float(length[i]))
            quota[i] -= 1
        ret, length = np.where(over, 0, ret), np.where(over, 0, length)
        start, reward, obs = over | ~shown.valid, np.where(over, 0, shown.reward), shown.obs
    return Evaluation(np.array(returns), np.array(lengths), deterministic)
