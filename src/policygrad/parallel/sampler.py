"""What one worker does that sends trajectories: play a window with a fixed copy of the parameters, and no more."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from policygrad.collect.host import leaves_of
from policygrad.learn.learner import Learner
from policygrad.parallel.player import moments, sums
from policygrad.random import standard, unrolled
from policygrad.types import Finished, Trajectory


class Sample(NamedTuple):
    """A window as it is sent: NumPy arrays."""

    trajectory: Trajectory
    """With ``log_mu``, so that the learner can tell how far its policy has moved on."""
    episodes: Any
    """Sum of returns, sum of lengths, and number of the episodes that ended."""
    seen: Any
    """As in :class:`policygrad.parallel.player.Window`."""


class Sampler(NamedTuple):
    """See :func:`make_sampler`."""

    begin: Callable[[Any, Array, Array], Any]
    """``(theta, collect_key, key) -> local``: a worker at its beginning."""
    play: Callable[[Any, Any], tuple[Any, Sample]]
    """``(theta, local) -> (local, sample)``: one window with that copy of θ."""


def make_sampler(learner: Learner, collector: Any, *, clip_reward: bool = False) -> Sampler:
    """The functions of a worker.

    Args:
        collector: a pure one, or a ``HostCollector``.
        clip_reward: send the rewards' signs, in pure worlds; a host collector does that itself.
    """
    blank = learner.init(jax.random.key(0))
    _, unravel = ravel_pytree(blank.params)

    def model(theta: Any) -> Any:
        return learner.model(blank._replace(params=unravel(theta)))

    def begin(theta: Any, collect_key: Array, key: Array) -> Any:
        return collector.init(model(theta), collect_key), key

    def window(theta: Any, local: Any) -> tuple[Any, Sample]:
        collected, key = local
        key, collect_key = jax.random.split(unrolled(key))
        collected, trajectory, finished = collector.collect(model(theta), collected, collect_key)
        if clip_reward:
            trajectory = trajectory._replace(reward=jnp.sign(trajectory.reward))
        return (collected, standard(key)), sample_of(trajectory, finished)

    compiled = jax.jit(window)
    leaves, split = jax.jit(lambda theta: leaves_of(model(theta))), jax.jit(jax.random.split)
    summed = jax.jit(sample_of)

    def play(theta: Any, local: Any) -> tuple[Any, Sample]:
        if collector.pure:
            local, sample = compiled(theta, local)
            return local, jax.tree.map(np.asarray, sample)
        collected, key = local
        key, collect_key = split(key)
        collected, trajectory, finished = collector.play(leaves(theta), collected, collect_key)
        return (collected, key), jax.tree.map(np.asarray, summed(trajectory, finished))

    return Sampler(jax.jit(begin) if collector.pure else begin, play)


def sample_of(trajectory: Trajectory, finished: Finished) -> Sample:
    return Sample(trajectory, sums(finished), moments(trajectory))
