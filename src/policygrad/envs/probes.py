"""Probes: environments so small that the right answer is known in closed form.

Each isolates one thing that a learner must get right, from the easiest on: if ``probe:constant`` fails the value loss
is wrong, if only ``probe:discount`` fails it is the bootstrap, and so on. Every probe pays once, on its last step, so
its value at the start under the best policy is γ^(length − 1) · ``best_return``.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from policygrad.envs.core import Env

END = np.ones((), bool)


class Probe(Env):
    """What all probes share: one number uniform on [0, 1) as noise, an end after ``length`` steps, and the known
    answer."""

    observation_space: spaces.Space = spaces.Box(-1.0, 1.0, (1,))
    action_space: spaces.Space = spaces.Discrete(2)

    length: int = 1
    """Steps per episode."""
    best_return: float = 1.0
    """Expected undiscounted return of the best policy."""
    chance_return: float = 0.0
    """Expected undiscounted return of uniformly random actions."""

    @property
    def time_limit(self) -> int:  # type: ignore[override]
        """The end and the limit fall together, and so it is an end."""
        return self.length

    def draw(self, key: Array, shape: tuple[int, ...]) -> Float[Array, "..."]:
        return jax.random.uniform(key, shape)

    def value_at_start(self, gamma: float) -> float:
        """Expected discounted return of the best policy."""
        return gamma ** (self.length - 1) * self.best_return


def coin(noise: Float[Array, ""]) -> Float[Array, ""]:
    """−1 or +1, equally likely."""
    return jnp.where(noise < 0.5, -1.0, 1.0)


@dataclass(frozen=True)
class ConstantReward(Probe):
    """``probe:constant``: one step, always paid 1. V(s) = 1, whatever is done. Tests the value loss."""

    chance_return = 1.0

    def reset(self, noise: Float[Array, ""]) -> tuple[Float[Array, "1"], Float[Array, "1"]]:
        state = jnp.zeros(1)
        return state, state

    def step(
        self, noise: Float[Array, ""], state: Float[Array, "1"], action: ArrayLike
    ) -> tuple[Float[Array, "1"], Float[Array, "1"], Float[Array, ""], Bool[Array, ""]]:
        return state, state, jnp.ones(()), jnp.asarray(END)


@dataclass(frozen=True)
class ObservationReward(Probe):
    """``probe:observation``: one step, paid the observation, which is −1 or +1. V(s) = s, 0 on average.

    Tests that the critic sees the state.
    """

    best_return = 0.0
    chance_return = 0.0

    def reset(self, noise: Float[Array, ""]) -> tuple[Float[Array, "1"], Float[Array, "1"]]:
        state = coin(noise)[None]
        return state, state

    def step(
        self, noise: Float[Array, ""], state: Float[Array, "1"], action: ArrayLike
    ) -> tuple[Float[Array, "1"], Float[Array, "1"], Float[Array, ""], Bool[Array, ""]]:
        return state, state, state[0], jnp.asarray(END)


@dataclass(frozen=True)
class DelayedReward(Probe):
    """``probe:discount``: two steps, paid 0 and then 1; the observation is the step's number. V(0) = γ, V(1) = 1.

    Tests the discount and the bootstrap.
    """

    length = 2
    chance_return = 1.0

    def reset(self, noise: Float[Array, ""]) -> tuple[Float[Array, "1"], Float[Array, "1"]]:
        state = jnp.zeros(1)
        return state, state

    def step(
        self, noise: Float[Array, ""], state: Float[Array, "1"], action: ArrayLike
    ) -> tuple[Float[Array, "1"], Float[Array, "1"], Float[Array, ""], Bool[Array, ""]]:
        last = state[0] > 0.5
        state = jnp.ones_like(state)
        return state, state, jnp.where(last, 1.0, 0.0), last


@dataclass(frozen=True)
class ActionReward(Probe):
    """``probe:action``: one step, paid +1 for action 1 and −1 for action 0. Best: 1, chance: 0.

    Tests the sign of the policy's gradient.
    """

    def reset(self, noise: Float[Array, ""]) -> tuple[Float[Array, "1"], Float[Array, "1"]]:
        state = jnp.zeros(1)
        return state, state

    def step(
        self, noise: Float[Array, ""], state: Float[Array, "1"], action: Int[ArrayLike, ""]
    ) -> tuple[Float[Array, "1"], Float[Array, "1"], Float[Array, ""], Bool[Array, ""]]:
        return state, state, jnp.where(action == 1, 1.0, -1.0), jnp.asarray(END)


@dataclass(frozen=True)
class MatchingReward(Probe):
    """``probe:observation-action``: one step, the observation is −1 or +1, paid +1 for naming it, else −1.

    Action 0 names −1, action 1 names +1. Best: 1, chance: 0; V(s) = 1 for the best policy. Tests that advantages belong
    to the right rows of a batch.
    """

    def reset(self, noise: Float[Array, ""]) -> tuple[Float[Array, "1"], Float[Array, "1"]]:
        state = coin(noise)[None]
        return state, state

    def step(
        self, noise: Float[Array, ""], state: Float[Array, "1"], action: Int[ArrayLike, ""]
    ) -> tuple[Float[Array, "1"], Float[Array, "1"], Float[Array, ""], Bool[Array, ""]]:
        right = (action == 1) == (state[0] > 0)
        return state, state, jnp.where(right, 1.0, -1.0), jnp.asarray(END)


@dataclass(frozen=True)
class ContinuousActionReward(Probe):
    """``probe:action-continuous``: one step, an action a in [−1, 1], paid −(a − ½)².

    Best: 0 at a = ½; chance: −(⅓ + ¼) = −7/12.
    """

    action_space = spaces.Box(-1.0, 1.0, (1,))
    best_return = 0.0
    chance_return = -7 / 12

    def reset(self, noise: Float[Array, ""]) -> tuple[Float[Array, "1"], Float[Array, "1"]]:
        state = jnp.zeros(1)
        return state, state

    def step(
        self, noise: Float[Array, ""], state: Float[Array, "1"], action: Float[Array, "1"]
    ) -> tuple[Float[Array, "1"], Float[Array, "1"], Float[Array, ""], Bool[Array, ""]]:
        return state, state, -((action[0] - 0.5) ** 2), jnp.asarray(END)


@dataclass(frozen=True)
class ContinuousMatchingReward(Probe):
    """``probe:observation-action-continuous``: one step, paid −(a − s/2)² for an action a in [−1, 1].

    The observation s is uniform on [−1, 1]. Best: 0 at a = s/2; chance: −(⅓ + 1/12) = −5/12.
    """

    action_space = spaces.Box(-1.0, 1.0, (1,))
    best_return = 0.0
    chance_return = -5 / 12

    def reset(self, noise: Float[Array, ""]) -> tuple[Float[Array, "1"], Float[Array, "1"]]:
        state = (2 * noise - 1)[None]
        return state, state

    def step(
        self, noise: Float[Array, ""], state: Float[Array, "1"], action: Float[Array, "1"]
    ) -> tuple[Float[Array, "1"], Float[Array, "1"], Float[Array, ""], Bool[Array, ""]]:
        return state, state, -((action[0] - state[0] / 2) ** 2), jnp.asarray(END)


class MemoryState(NamedTuple):
    """The cue, −1 or +1, and the steps taken."""

    cue: Float[Array, ""]
    time: Int[Array, ""]


@dataclass(frozen=True)
class Memory(Probe):
    """``probe:memory``: the cue is shown on the first step only and must be named ``delay`` steps later.

    Observation ``[2]``: the cue (−1 or +1 on the first step, else 0), and 1 on the step that asks for it (else 0). Only
    the last action counts: +1 for naming the cue (0 names −1, 1 names +1), else −1. Best: 1. Without memory the answer
    is independent of the cue, so *every* memoryless policy gets exactly 0, as chance does. V at the start is γ^delay
    for the best policy.
    """

    delay: int = 4

    observation_space = spaces.Box(-1.0, 1.0, (2,))

    def __post_init__(self) -> None:
        if self.delay < 1:
            raise ValueError(
                f"probe:memory: delay is {self.delay}; it must be at least 1, or there is nothing to remember."
            )

    @property
    def length(self) -> int:  # type: ignore[override]
        return self.delay + 1

    def reset(self, noise: Float[Array, ""]) -> tuple[MemoryState, Float[Array, "2"]]:
        state = MemoryState(coin(noise), jnp.zeros((), jnp.int32))
        return state, self.observe(state)

    def step(
        self, noise: Float[Array, ""], state: MemoryState, action: Int[ArrayLike, ""]
    ) -> tuple[MemoryState, Float[Array, "2"], Float[Array, ""], Bool[Array, ""]]:
        asked = state.time == self.delay
        right = (action == 1) == (state.cue > 0)
        state = MemoryState(state.cue, state.time + 1)
        return state, self.observe(state), jnp.where(asked, jnp.where(right, 1.0, -1.0), 0.0), asked

    def observe(self, state: MemoryState) -> Float[Array, "2"]:
        shown = jnp.where(state.time == 0, state.cue, 0.0)
        return jnp.stack([shown, jnp.where(state.time == self.delay, 1.0, 0.0)])


PROBES: dict[str, type[Probe]] = {
    "constant": ConstantReward,
    "observation": ObservationReward,
    "discount": DelayedReward,
    "action": ActionReward,
    "observation-action": MatchingReward,
    "action-continuous": ContinuousActionReward,
    "observation-action-continuous": ContinuousMatchingReward,
    "memory": Memory,
}
"""Every probe by its name, without the ``probe:``."""
