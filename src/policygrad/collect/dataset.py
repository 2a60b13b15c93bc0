"""Nobody plays: the episodes were played before, by another policy. The same two functions as everywhere."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from policygrad.collect.xla import Collector
from policygrad.models.actor_critic import initial_carry
from policygrad.types import Finished, Trajectory


def dataset_collector(trajectory: Trajectory | None, n_episodes: int) -> Collector:
    """``n_episodes`` different episodes of a dataset, drawn anew each time.

    Args:
        trajectory: all of it, whole episodes ``[T, B]``, without a carry; None: what only begins needs no data.

    No episode is *finished* here: their returns are those of the policy that played them.
    """

    def init(model: Any, key: Array) -> tuple[()]:
        return ()

    def collect(model: Any, state: tuple[()], key: Array) -> tuple[tuple[()], Trajectory, Finished]:
        assert trajectory is not None
        which = jax.random.permutation(key, trajectory.mask.shape[1])[:n_episodes]
        drawn = jax.tree.map(lambda x: jnp.take(x, which, axis=1), trajectory)
        drawn = drawn._replace(carry=initial_carry(model, which.shape))
        nothing = Finished(jnp.zeros_like(drawn.mask), jnp.zeros_like(drawn.reward), jnp.zeros_like(drawn.time))
        return state, drawn, nothing

    return Collector(init, collect, pure=True)
