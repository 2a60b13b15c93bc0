"""Small worlds that each teach one thing about episodes, horizons and discounts. All can be solved exactly.

:func:`climb`        where episodes begin decides what is ever seen.
:func:`near_far`     a small reward nearby hides a large one behind it.
:func:`orchard`      what is best depends on the time to go.
:func:`apprentice`   a task without an end is watched a few steps at a time.
:func:`ledge`        what is paid now may cost later: a small γ looks away.
"""

import numpy as np

from policygrad.envs.tabular import TabularMDP, one_hot, walk


def climb(n: int = 16, good: float = 0.0, *, horizon: int | None = None, time_limit: int | None = None) -> TabularMDP:
    """``n`` steps up, and one wrong step leads back to the foot. Reaching the top pays 1 and ends the episode.

    Action 1 climbs, action 0 falls to the foot. With probability ``good`` an episode begins on one of the ``n`` places
    below the top, all equally likely, instead of at the foot: a *reset to good states* (Kakade & Langford 2002). A
    random policy climbs from the foot to the top without falling with probability 2⁻ⁿ.
    """
    if n < 1:
        raise ValueError(f"climb: n is {n}; it needs at least 1 step.")
    if not 0 <= good <= 1:
        raise ValueError(f"climb: good is {good}; it is a probability, so give a number from 0 to 1.")
    places = np.arange(n + 1)
    successor = np.stack([np.zeros(n + 1, int), np.minimum(places + 1, n)], axis=1)
    reward = (places == n).astype(float)
    mdp = walk(one_hot(successor, n + 1), 0, goal=n, reward=reward, horizon=horizon, time_limit=time_limit)
    initial = (1 - good) * mdp.initial + good * np.where(places < n, 1 / n, 0)
    return TabularMDP(
        initial, mdp.transition, mdp.reward_value, terminal=mdp.terminal, horizon=horizon, time_limit=time_limit
    )


def near_far(
    length: int = 6, near: float = 1.0, far: float = 50.0, *, horizon: int | None = None, time_limit: int | None = None
) -> TabularMDP:
    """Take ``near`` at once, or walk ``length`` steps for ``far``. One step aside on the way ends the episode, unpaid.

    Action 0 takes (at the start) or steps aside (on the way), action 1 walks. A random policy that walks gets
    far/2^(length − 1). Where this exceeds ``near`` the gradient points to the far reward; but a learner sees ``near``
    every second time.
    """
    if length < 1:
        raise ValueError(f"near_far: length is {length}; it needs at least 1 step.")
    end = length
    successor = np.stack([np.full(length + 1, end), np.minimum(np.arange(length + 1) + 1, end)], axis=1)
    reward = np.zeros((length + 1, 2, length + 1))
    reward[0, 0, end] = near
    reward[length - 1, 1, end] = far
    return walk(one_hot(successor, length + 1), 0, goal=end, reward=reward, horizon=horizon, time_limit=time_limit)


def orchard(timber: float = 8.0, *, horizon: int | None = 10, time_limit: int | None = None) -> TabularMDP:
    """A tree gives 1 each year to who picks (action 0). Felling it (action 1) pays ``timber``, once, and is the end.

    In ``horizon`` years the best is to pick until the last and fell then, horizon − 1 + ``timber``. Who does not see
    the years go by can only fell with a constant probability.
    """
    transition = np.zeros((2, 2, 2))
    transition[0, 0, 0] = transition[0, 1, 1] = 1
    transition[1, :, 1] = 1
    reward = np.zeros((2, 2, 2))
    reward[0, 0, 0], reward[0, 1, 1] = 1.0, timber
    return walk(transition, 0, goal=1, reward=reward, horizon=horizon, time_limit=time_limit)


def apprentice(
    years: int = 3, wage: float = 2.0, *, horizon: int | None = None, time_limit: int | None = None
) -> TabularMDP:
    """Odd jobs pay 1 (action 0). ``years`` steps of learning pay nothing (action 1), and a master earns ``wage`` for
    ever.

    There is no end: learning is worth wage·γ^years/(1 − γ), odd jobs 1/(1 − γ). With ``time_limit`` the life is watched
    for so many steps and begins again elsewhere; with ``horizon`` it ends there.
    """
    if years < 1:
        raise ValueError(f"apprentice: years is {years}; it needs at least 1.")
    places = np.arange(years + 1)
    successor = np.stack([places, np.minimum(places + 1, years)], axis=1)
    transition = one_hot(successor, years + 1)
    reward = np.zeros((years + 1, 2, years + 1))
    reward[:, 0] = 1.0
    reward[years] = wage
    return TabularMDP(one_hot(0, years + 1), transition, reward, horizon=horizon, time_limit=time_limit)


def ledge(
    length: int = 5, fall: float = 0.5, cost: float = 4.0, *, horizon: int | None = None, time_limit: int | None = None
) -> TabularMDP:
    """Two ways along a cliff. Stepping onto the ledge (action 1) pays 1 now, and ``length`` steps later it may fall.

    The ledge breaks at its far end with probability ``fall``, which costs ``cost``; the path behind it (action 0) pays
    nothing and is safe. After the first step both actions go on. Seen with γ the ledge is worth 1 − γ^length·fall·cost,
    the path 0: the ledge looks better wherever γ < (fall·cost)^(−1/length). States: 0 the fork, 1 … ``length`` the
    ledge, ``length`` + 1 … 2·``length`` the path, and the end.
    """
    if length < 1:
        raise ValueError(f"ledge: length is {length}; it needs at least 1 step.")
    if not 0 <= fall <= 1:
        raise ValueError(f"ledge: fall is {fall}; it is a probability, so give a number from 0 to 1.")
    end = 2 * length + 1
    successor = np.stack([np.arange(end + 1) + 1] * 2, axis=1)
    successor[0] = length + 1, 1
    successor[[length, end - 1, end]] = end
    transition = one_hot(successor, end + 1)
    reward_value = np.zeros((*transition.shape, 2))
    reward_prob = np.full_like(reward_value, 0.5)
    reward_value[0, 1, 1] = 1.0
    reward_value[length, :, end, 1] = -cost
    reward_prob[length, :, end] = 1 - fall, fall
    mdp = walk(transition, 0, goal=end, reward=0.0, horizon=horizon, time_limit=time_limit)
    return TabularMDP(
        mdp.initial, mdp.transition, reward_value, reward_prob, mdp.terminal, horizon=horizon, time_limit=time_limit
    )
