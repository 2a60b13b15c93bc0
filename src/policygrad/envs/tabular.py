"""Finite Markov decision processes as arrays: small enough that everything about them can be computed exactly."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from policygrad.envs.core import Env

FILLED_IN: Any = None
"""The default of a field that the constructor fills in."""


class TabularState(NamedTuple):
    """The state's number s, and the steps taken since the episode began."""

    s: Int[Array, ""]
    time: Int[Array, ""]


@dataclass(frozen=True, eq=False)
class TabularMDP(Env):
    """A Markov decision process given by its arrays, with S states, A actions and M possible rewards per transition.

    Args:
        initial: ``[S]``, P(s_0 = s).
        transition: ``[S, A, S]``, P(s' | s, a).
        reward_value: ``[S, A, S, M]``, what the transition s, a → s' may pay; or ``[S, A, S]`` if there is one reward.
        reward_prob: ``[S, A, S, M]``, their probabilities; by default they are equally likely.
        terminal: ``[S]`` bool: reaching such a state ends the episode. None is terminal by default.
        observation: ``[S]`` int, what the agent sees of each state: by default the state. States may look the same.
        n_observations: how many observations there are; by default as many as ``observation`` needs.
        horizon: the episode *ends* (is terminated) after so many steps: the problem is a finite-horizon one.
        time_limit: the episode is *truncated* after so many steps: the problem goes on, but is not watched further.

    Arrays rest as read-only NumPy float64 and take JAX's default dtype inside a step. Actions and observations are
    ``Discrete``.
    """

    initial: np.ndarray
    transition: np.ndarray
    reward_value: np.ndarray
    reward_prob: np.ndarray = FILLED_IN
    terminal: np.ndarray = FILLED_IN
    observation: np.ndarray = FILLED_IN
    n_observations: int = FILLED_IN
    horizon: int | None = None
    time_limit: int | None = None
    observation_space: spaces.Space = field(init=False)
    action_space: spaces.Space = field(init=False)

    def __post_init__(self) -> None:
        for name, array in complete(self).items():
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if self.n_observations is None:
            object.__setattr__(self, "n_observations", int(self.observation.max()) + 1)
        validate(self)
        object.__setattr__(self, "observation_space", spaces.Discrete(self.n_observations))
        object.__setattr__(self, "action_space", spaces.Discrete(self.n_actions))

    @property
    def n_states(self) -> int:
        return self.transition.shape[0]

    @property
    def n_actions(self) -> int:
        return self.transition.shape[1]

    def draw(self, key: Array, shape: tuple[int, ...]) -> Float[Array, "... 2"]:
        """Two numbers uniform on [0, 1) per call: one for the state, one for the reward."""
        return jax.random.uniform(key, (*shape, 2))

    def reset(self, noise: Float[Array, "2"]) -> tuple[TabularState, Int[Array, ""]]:
        index = inverse_cdf(jnp.asarray(self._cdf["initial"]), noise[0])
        return TabularState(index, jnp.zeros((), jnp.int32)), self.observe(index)

    def step(
        self, noise: Float[Array, "2"], state: TabularState, action: Int[ArrayLike, ""]
    ) -> tuple[TabularState, Int[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        index = inverse_cdf(jnp.asarray(self._cdf["transition"])[state.s, action], noise[0])
        which = inverse_cdf(jnp.asarray(self._cdf["reward"])[state.s, action, index], noise[1])
        reward = jnp.asarray(self.reward_value)[state.s, action, index, which]
        time = state.time + 1
        terminated = jnp.asarray(self.terminal)[index]
        if self.horizon is not None:
            terminated |= time >= self.horizon
        return TabularState(index, time), self.observe(index), reward, terminated

    def observe(self, index: Int[Array, ""]) -> Int[Array, ""]:
        return jnp.asarray(self.observation, jnp.int32)[index]

    @cached_property
    def _cdf(self) -> dict[str, np.ndarray]:
        return {"initial": cdf(self.initial), "transition": cdf(self.transition), "reward": cdf(self.reward_prob)}


def cdf(probabilities: Any) -> np.ndarray:
    """Cumulative sums over the last axis; the last positive outcome, and all after it, stand at exactly 1."""
    sums = np.cumsum(probabilities, axis=-1)
    return sums / sums[..., -1:]


def inverse_cdf(cdf: Float[Array, "k"], uniform: Float[Array, ""]) -> Int[Array, ""]:
    """The outcome that a number uniform on [0, 1) stands for. An outcome of probability zero is never drawn."""
    return jnp.sum(uniform >= cdf, dtype=jnp.int32)


def complete(mdp: TabularMDP) -> dict[str, np.ndarray]:
    """All arrays as NumPy copies, the defaults filled in."""
    transition, reward_value = np.array(mdp.transition, np.float64), np.array(mdp.reward_value, np.float64)
    if reward_value.shape == transition.shape:
        reward_value = reward_value[..., None]
    n_states, n_rewards = len(transition), reward_value.shape[-1]
    equally_likely = np.full(reward_value.shape, 1 / n_rewards)
    return {
        "initial": np.array(mdp.initial, np.float64),
        "transition": transition,
        "reward_value": reward_value,
        "reward_prob": np.array(equally_likely if mdp.reward_prob is None else mdp.reward_prob, np.float64),
        "terminal": np.array(np.zeros(n_states, bool) if mdp.terminal is None else mdp.terminal),
        "observation": np.array(np.arange(n_states) if mdp.observation is None else mdp.observation),
    }


def validate(mdp: TabularMDP) -> None:
    """Raise a ValueError that names the array, what is wrong with it, and the fix."""
    if mdp.transition.ndim != 3 or mdp.transition.shape[0] != mdp.transition.shape[2] or 0 in mdp.transition.shape:
        raise ValueError(f"TabularMDP: transition has shape {mdp.transition.shape}; it must be [S, A, S].")
    states, rewards = mdp.transition.shape[:1], (*mdp.transition.shape, mdp.reward_value.shape[-1])
    shapes = {
        "reward_value": rewards,
        "reward_prob": rewards,
        "initial": states,
        "terminal": states,
        "observation": states,
    }
    for name, shape in shapes.items():
        if (given := getattr(mdp, name).shape) != shape:
            raise ValueError(f"TabularMDP: {name} has shape {given}, but transition asks for shape {shape}.")
    if not np.isfinite(mdp.reward_value).all():
        raise ValueError("TabularMDP: reward_value holds a number that is not finite.")
    for name in ("initial", "transition", "reward_prob"):
        validate_probabilities(name, getattr(mdp, name))
    if mdp.terminal.dtype != bool:
        raise ValueError(f"TabularMDP: terminal has dtype {mdp.terminal.dtype}; it must be bool.")
    if mdp.initial[mdp.terminal].any():
        raise ValueError("TabularMDP: initial starts in a terminal state. Start only in states that are not terminal.")
    if mdp.observation.dtype.kind != "i" or mdp.observation.min() < 0 or mdp.observation.max() >= mdp.n_observations:
        raise ValueError(
            f"TabularMDP: observation must hold integers from 0 to {mdp.n_observations - 1}, its n_observations − 1."
        )
    for name in ("horizon", "time_limit"):
        if (limit := getattr(mdp, name)) is not None and limit < 1:
            raise ValueError(f"TabularMDP: {name} is {limit}; give a positive number of steps, or None.")


def validate_probabilities(name: str, array: np.ndarray) -> None:
    if not np.isfinite(array).all() or array.min() < 0:
        raise ValueError(f"TabularMDP: {name} holds a number that is negative or not finite, so it is no probability.")
    wrong = np.argwhere(~np.isclose(array.sum(axis=-1), 1, rtol=0, atol=1e-8))
    if len(wrong):
        row = tuple(int(i) for i in wrong[0])
        where = f"{name}[{', '.join(map(str, row))}]" if row else name
        raise ValueError(f"TabularMDP: {where} sums to {array[row].sum():.6g}, not to 1. Divide it by its sum.")


# The well-known ones


def chain(n: int = 5, *, slip: float = 0.0, horizon: int | None = None, time_limit: int | None = None) -> TabularMDP:
    """``n`` states in a row. From the leftmost, walk right: reaching the last state pays 1 and ends the episode.

    Actions: 0 left, 1 right; at the left wall nothing moves. With probability ``slip`` the walker goes the other way.
    """
    if n < 2:
        raise ValueError(f"chain: n is {n}; it needs at least 2 states.")
    left, right = np.maximum(np.arange(n) - 1, 0), np.minimum(np.arange(n) + 1, n - 1)
    transition = slippery(np.stack([left, right], axis=1), other=np.stack([right, left], axis=1), slip=slip)
    reward = (np.arange(n) == n - 1).astype(float)
    return walk(transition, start=0, goal=n - 1, reward=reward, horizon=horizon, time_limit=time_limit)


def short_corridor(*, horizon: int | None = None, time_limit: int | None = None) -> TabularMDP:
    """Sutton and Barto (2018), Example 13.1: three states look the same, in the middle one the actions are switched.

    Actions: 0 left, 1 right; −1 per step. The best policy is stochastic: right with probability 2 − √2 ≈ 0.586, worth
    −6 − 4√2 ≈ −11.66 (:func:`short_corridor_value`).
    """
    successor = np.array([[0, 1], [2, 0], [1, 3], [3, 3]])
    look = np.zeros(4, int)
    return walk(one_hot(successor, 4), 0, goal=3, reward=-1.0, observation=look, horizon=horizon, time_limit=time_limit)


def short_corridor_value(p_right: Any) -> Any:
    """The undiscounted value of the corridor's start if *right* has probability p: −2(2 − p) / (p(1 − p))."""
    return -2 * (2 - p_right) / (p_right * (1 - p_right))


MOVES = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])
"""Up, right, down, left, as (row, column)."""


def grid(
    rows: int = 4, cols: int = 4, *, slip: float = 0.0, horizon: int | None = None, time_limit: int | None = None
) -> TabularMDP:
    """From the top left to the bottom right corner, −1 per step. States count along the rows.

    Actions: 0 up, 1 right, 2 down, 3 left; walls stop. With probability ``slip`` the move is one of the four, drawn at
    random.
    """
    if rows * cols < 2:
        raise ValueError(f"grid: {rows} × {cols} is too small; it needs at least two cells.")
    transition = slippery(grid_successor(rows, cols), slip=slip)
    return walk(transition, start=0, goal=rows * cols - 1, reward=-1.0, horizon=horizon, time_limit=time_limit)


def cliff(*, horizon: int | None = None, time_limit: int | None = None) -> TabularMDP:
    """Sutton and Barto (2018), Example 6.6: 4 × 12 cells, from the bottom left to the bottom right corner, −1 per step.

    Between the two lies the cliff: stepping on it pays −100 and leads back to the start. Actions: 0 up, 1 right,
    2 down, 3 left. The best undiscounted return is −13.
    """
    rows, cols = 4, 12
    start, goal, edge = 36, 47, np.arange(37, 47)
    successor = grid_successor(rows, cols)
    falls = np.isin(successor, edge)
    transition = one_hot(np.where(falls, start, successor), rows * cols)
    reward = np.where(falls, -100.0, -1.0)[:, :, None]
    return walk(transition, start, goal=goal, reward=reward, horizon=horizon, time_limit=time_limit)


def fork(
    length: int = 4, wide: float = 0.9, *, horizon: int | None = None, time_limit: int | None = None
) -> TabularMDP:
    """Two ways of ``length`` steps: a narrow one, whose end pays 1, and a wide one, whose end pays ``wide``.

    Action 0 takes the narrow way and stays on it; action 1 takes the wide way, and on the narrow one it falls: the
    episode ends, unpaid. On the wide way both actions go on. States: 0 the fork, 1 … ``length`` the narrow way,
    ``length`` + 1 … 2·``length`` the wide way, and the end. The best return is 1; whoever also values freedom of action
    goes the wide way.
    """
    if length < 1:
        raise ValueError(f"fork: length is {length}; a way needs at least 1 step.")
    end = 2 * length + 1
    narrow, open_way = np.arange(1, length + 1), np.arange(length + 1, end)
    successor = np.full((end + 1, 2), end)
    successor[0] = narrow[0], open_way[0]
    successor[narrow[:-1], 0] = narrow[1:]
    successor[open_way[:-1]] = open_way[1:, None]
    reward = np.zeros((end + 1, 2, end + 1))
    reward[narrow[-1], 0, end] = 1.0
    reward[open_way[-1], :, end] = wide
    return walk(one_hot(successor, end + 1), 0, goal=end, reward=reward, horizon=horizon, time_limit=time_limit)


def random_walk(n_states: int = 19, *, horizon: int | None = None, time_limit: int | None = None) -> TabularMDP:
    """Sutton and Barto (2018), Example 7.1: from the middle of a row to either end; the left end pays −1, the right 1.

    Actions: 0 left, 1 right. States: 0 the left end, 1 … ``n_states``, and the right end. Under the uniform policy,
    undiscounted, V(s) = 2s/(n_states + 1) − 1.
    """
    if n_states < 1 or n_states % 2 == 0:
        raise ValueError(f"random_walk: n_states is {n_states}; give an odd number, so that there is a middle.")
    place = np.arange(n_states + 2)
    end = (place == 0) | (place == n_states + 1)
    successor = np.where(end[:, None], place[:, None], place[:, None] + [-1, 1])
    reward = np.zeros((n_states + 2, 2, n_states + 2))
    reward[1, :, 0], reward[n_states, :, -1] = -1.0, 1.0
    start, transition = one_hot((n_states + 1) // 2, n_states + 2), one_hot(successor, n_states + 2)
    return TabularMDP(start, transition, reward, terminal=end, horizon=horizon, time_limit=time_limit)


def random_mdp(
    seed: Any = 0,
    n_states: int = 5,
    n_actions: int = 2,
    *,
    branching: int | None = None,
    n_rewards: int = 2,
    n_terminal: int = 0,
    n_observations: int | None = None,
    horizon: int | None = None,
    time_limit: int | None = None,
) -> TabularMDP:
    """A random MDP in the manner of Garnet (Archibald, McKinnon and Thomas 1995), whose rewards are random as well.

    Each state and action leads to ``branching`` states (all of them by default) with Dirichlet(1) probabilities; each
    transition pays one of ``n_rewards`` standard normal numbers, also with Dirichlet(1) probabilities. The last
    ``n_terminal`` states are terminal. With fewer observations than states, s is seen as s mod ``n_observations``.

    Args:
        seed: an integer, or a JAX key.
    """
    if not 0 <= n_terminal < n_states:
        raise ValueError(f"random_mdp: n_terminal is {n_terminal}; it must be from 0 to n_states − 1 = {n_states - 1}.")
    if branching is not None and not 1 <= branching <= n_states:
        raise ValueError(f"random_mdp: branching is {branching}; it must be from 1 to n_states = {n_states}.")
    rng = np.random.default_rng(entropy(seed))
    states, shape = np.arange(n_states), (n_states, n_actions, n_states)
    reached = rng.permuted(np.broadcast_to(states, shape), axis=-1) < (branching or n_states)
    terminal = states >= n_states - n_terminal

    start = rng.exponential(size=n_states) * ~terminal
    weight = rng.exponential(size=shape) * reached  # exponential numbers over their sum are Dirichlet(1)
    weight[terminal] = np.eye(n_states)[terminal][:, None]
    reward_value = rng.normal(size=(*shape, n_rewards))
    reward_value[terminal] = 0.0
    return TabularMDP(
        initial=start / start.sum(),
        transition=weight / weight.sum(axis=-1, keepdims=True),
        reward_value=reward_value,
        reward_prob=rng.dirichlet(np.ones(n_rewards), size=shape),
        terminal=terminal,
        observation=states % (n_observations or n_states),
        n_observations=n_observations or n_states,
        horizon=horizon,
        time_limit=time_limit,
    )


# Their parts


def walk(transition: np.ndarray, start: int, *, goal: int, reward: Any, **options: Any) -> TabularMDP:
    """From ``start`` to ``goal``, which is terminal, absorbing, and pays nothing itself. ``reward`` broadcasts to
    ``[S, A, S]``."""
    n_states = len(transition)
    terminal = np.arange(n_states) == goal
    transition = np.where(terminal[:, None, None], np.eye(n_states)[:, None, :], transition)
    reward = np.where(terminal[:, None, None], 0.0, np.broadcast_to(reward, transition.shape))
    return TabularMDP(one_hot(start, n_states), transition, reward, terminal=terminal, **options)


def one_hot(index: Any, n: int) -> np.ndarray:
    return np.eye(n)[index]


def slippery(successor: np.ndarray, *, slip: float, other: np.ndarray | None = None) -> np.ndarray:
    """``[S, A, S]`` from the intended successors ``[S, A]``. With probability ``slip`` the one in ``other`` is taken
    instead, or that of a random action."""
    if not 0 <= slip <= 1:
        raise ValueError(f"slip is {slip}; it is a probability, so give a number from 0 to 1.")
    intended = one_hot(successor, len(successor))
    astray = intended.mean(axis=1, keepdims=True) if other is None else one_hot(other, len(successor))
    return (1 - slip) * intended + slip * astray


def grid_successor(rows: int, cols: int) -> np.ndarray:
    """``[rows·cols, 4]``: where each move leads."""
    cells = np.stack(np.divmod(np.arange(rows * cols), cols), axis=-1)
    row, col = np.moveaxis(np.clip(cells[:, None] + MOVES, 0, [rows - 1, cols - 1]), -1, 0)
    return row * cols + col


def entropy(seed: Any) -> Any:
    """What NumPy's generator is seeded with: an integer as it is, a JAX key by its bits."""
    if isinstance(seed, int | np.integer):
        return int(seed)
    is_typed = isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(seed) if is_typed else seed).ravel().tolist()
