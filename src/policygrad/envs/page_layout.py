"""The lecture's page: who is here decides which of three layouts is best. As a bandit, and as a decision process.

In :class:`PageLayout` every page is shown to somebody new: what is shown changes nothing that comes later, and who
predicts clicks best plays best. In :class:`PageLayoutSequential` the same user comes back for the next page, pleased
or annoyed by the last: the loud layout is clicked most and drives users away.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from policygrad.envs.core import Env

LAYOUTS = ("text", "pictures", "banner")
"""What the actions 0, 1 and 2 are called."""
TASTES = np.array([[0.4, 0.2, -0.2, 0.0], [-0.3, 0.3, 0.1, 0.2], [-0.1, -0.4, 0.1, -0.2]], np.float32)
"""``[layout, feature]``: by how much a feature of 1 raises the probability of a click."""
APPEAL = np.array([0.45, 0.45, 0.45], np.float32)
"""The probability of a click of a user whose features are all 0."""
LOUD = 2
"""The banner."""


class User(NamedTuple):
    """Who looks at the page."""

    features: Float[Array, "4"]
    """Uniform on [−1, 1], the same for as long as the user comes back."""
    mood: Float[Array, ""]
    """0, about to leave, to 1. New users have 1."""


class Noise(NamedTuple):
    """The numbers of one page, all uniform: the features of a new user on [−1, 1], the others on [0, 1)."""

    features: Float[Array, "*B 4"]
    click: Float[Array, "*B"]
    stay: Float[Array, "*B"]


class Page(Env):
    """What both worlds share: three layouts, users with four features, paid 1 for a click."""

    action_space: spaces.Space = spaces.Discrete(len(LAYOUTS))

    def draw(self, key: Array, shape: tuple[int, ...]) -> Noise:
        who, what = jax.random.split(key)
        others = jax.random.uniform(what, (2, *shape))
        return Noise(jax.random.uniform(who, (*shape, TASTES.shape[1]), minval=-1.0), others[0], others[1])


def taste(features: Float[Array, "*B 4"]) -> Float[Array, "*B 3"]:
    """The probability of a click on each layout, for a user in full mood: linear in the features, clipped."""
    return jnp.clip(APPEAL + features @ TASTES.T, 0.0, 1.0)


@dataclass(frozen=True)
class PageLayout(Page):
    """``PageLayout-v0``: one page per user, then somebody else comes. A contextual bandit.

    Observation ``[4]``: the user's features. A click pays 1, with probability ``taste(features)[layout]``.
    """

    time_limit: int | None = 1
    observation_space: ClassVar[spaces.Space] = spaces.Box(-1.0, 1.0, (4,))

    def reset(self, noise: Noise) -> tuple[User, Float[Array, "4"]]:
        return User(noise.features, jnp.ones(())), noise.features

    def step(
        self, noise: Noise, user: User, action: Int[ArrayLike, ""]
    ) -> tuple[User, Float[Array, "4"], Float[Array, ""], Bool[Array, ""]]:
        click = noise.click < taste(user.features)[action]
        return user, user.features, jnp.where(click, 1.0, 0.0), jnp.ones((), bool)


@dataclass(frozen=True)
class PageLayoutSequential(Page):
    """``PageLayoutSequential-v0``: the user comes back, up to ``time_limit`` pages, unless the mood is spoilt.

    The banner is clicked more often by ``loud`` and costs ``annoy`` of the mood; another layout gives ``calm`` back. A
    click has probability mood · (taste + loud·[banner]); after a page the user stays with probability ½ + mood/2.

    Observation ``[5]``: the user's features and the mood. The return is the number of clicks of one user.
    """

    loud: float = 0.4
    annoy: float = 0.3
    calm: float = 0.1
    time_limit: int | None = 20
    observation_space: ClassVar[spaces.Space] = spaces.Box(
        np.array([-1, -1, -1, -1, 0], np.float32), np.ones(5, np.float32)
    )

    def reset(self, noise: Noise) -> tuple[User, Float[Array, "5"]]:
        user = User(noise.features, jnp.ones(()))
        return user, self.observe(user)

    def step(
        self, noise: Noise, user: User, action: Int[ArrayLike, ""]
    ) -> tuple[User, Float[Array, "5"], Float[Array, ""], Bool[Array, ""]]:
        banner = jnp.asarray(action) == LOUD
        likes = jnp.clip(taste(user.features)[action] + self.loud * banner, 0.0, 1.0)
        click = noise.click < user.mood * likes
        mood = jnp.clip(user.mood + jnp.where(banner, -self.annoy, self.calm), 0.0, 1.0)
        user = User(user.features, mood)
        return user, self.observe(user), jnp.where(click, 1.0, 0.0), noise.stay >= 0.5 + mood / 2

    def observe(self, user: User) -> Float[Array, "5"]:
        return jnp.append(user.features, user.mood)


def best_click_rate(n_users: int = 2**17, seed: int = 0) -> float:
    """The mean of max_a taste(features)[a] over random users: what the best policy of ``PageLayout-v0`` earns."""
    features = np.random.default_rng(seed).uniform(-1, 1, (n_users, TASTES.shape[1]))
    return float(np.clip(APPEAL + features @ TASTES.T, 0, 1).max(axis=1).mean())
