"""Online regression: E[r | x, a] from one row after another, of which only the chosen action's reward is seen.

An :class:`Oracle` is three pure functions over a state of arrays. Predictions take any batch axes, learning takes one
row. ``linear`` is exact and costs d² per row, ``gradient`` is as linear and costs d, ``network`` is a small MLP.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from policygrad.models.networks import MLP, Linear

MOST_NUMBERS = 2**28
"""Of one ``linear`` state: 1 GiB in float32."""


class Oracle(NamedTuple):
    """A regression that learns online."""

    init: Callable[[Array], Any]
    """``key -> state``."""
    predict: Callable[[Any, Array], Array]
    """``(state, features [*B, d]) -> [*B, K]``: the predicted reward of every action."""
    learn: Callable[[Any, Array, Array, Array, Array], Any]
    """``(state, features [d], action [], reward [], weight []) -> state``: one row, as if it were there ``weight``
    times."""


class LeastSquares(NamedTuple):
    """The ridge regression of every action on the rows where it was chosen."""

    weight: Float[Array, "K d"]
    """θ_a = A_a⁻¹ b_a."""
    inverse: Float[Array, "K d d"]
    """A_a⁻¹ = (ridge·I + Σ w x xᵀ)⁻¹."""


def linear(n_actions: int, n_features: int, *, ridge: float = 1.0) -> Oracle:
    """Online ridge regression, one for each action, exact after every row (recursive least squares).

        g = A⁻¹x,    θ ← θ + g (r − θᵀx) / (1/w + xᵀg),    A⁻¹ ← A⁻¹ − g gᵀ / (1/w + xᵀg)

    (Sherman & Morrison 1950.) θ_a minimises ridge·‖θ‖² + Σ w (r − θᵀx)². State K·d², time d² per row.

    Raises:
        ValueError: no ridge, or too many features for a K × d × d state.
    """
    if not ridge > 0:
        raise ValueError(f"ridge is {ridge}; it must be above 0, such as 1")
    if n_actions * n_features**2 > MOST_NUMBERS:
        raise ValueError(
            f"the linear oracle keeps {n_actions} × {n_features}² numbers, which is too many: "
            "choose oracle 'gradient', or hash to fewer slots"
        )

    def init(key: Array) -> LeastSquares:
        one = jnp.eye(n_features) / ridge
        return LeastSquares(jnp.zeros((n_actions, n_features)), jnp.tile(one, (n_actions, 1, 1)))

    def learn(state: LeastSquares, x: Array, action: Array, reward: Array, weight: Array) -> LeastSquares:
        g = state.inverse[action] @ x
        scale = weight / (1 + weight * (x @ g))
        error = reward - state.weight[action] @ x
        return LeastSquares(
            state.weight.at[action].add(scale * error * g),
            state.inverse.at[action].add(-scale * jnp.outer(g, g)),
        )

    return Oracle(init, lambda state, features: features @ state.weight.T, learn)


class AdaptiveGradient(NamedTuple):
    """Linear weights, and how much each has been pulled at."""

    weight: Float[Array, "K d"]
    squares: Float[Array, "K d"]
    """Σ w·(∂loss/∂θ)²."""


def gradient(n_actions: int, n_features: int, *, learning_rate: float = 0.5) -> Oracle:
    """Linear regression by adaptive gradients, each step as long as it may be without overshooting.

        e = r − θᵀx,    G ← G + w (e x)²,    d = x / (‖x‖ √G),    θ ← θ + e d · (1 − exp(−η w xᵀd)) / xᵀd

    AdaGrad (Duchi et al. 2011), normalised by the row's length, so that η means the same for few features and many
    (Ross, Mineiro & Langford 2013), in the closed form of many small steps: a row of weight w equals w rows of weight 1
    with the same d, and the prediction never passes r (Karampatziakis & Langford 2011). Time d per row.

    Raises:
        ValueError: the learning rate is not above 0.
    """
    if not learning_rate > 0:
        raise ValueError(f"learning_rate is {learning_rate}; it must be above 0, such as 0.5")

    def init(key: Array) -> AdaptiveGradient:
        return AdaptiveGradient(*jnp.zeros((2, n_actions, n_features)))

    def learn(state: AdaptiveGradient, x: Array, action: Array, reward: Array, weight: Array) -> AdaptiveGradient:
        error = reward - state.weight[action] @ x
        squares = state.squares[action] + weight * (error * x) ** 2
        d = jnp.where(squares > 0, x * jax.lax.rsqrt(jnp.where(squares > 0, squares * (x @ x), 1)), 0)
        along = x @ d
        share = jnp.where(along > 0, -jnp.expm1(-learning_rate * weight * along) / jnp.where(along > 0, along, 1), 0)
        return AdaptiveGradient(state.weight.at[action].add(error * share * d), state.squares.at[action].set(squares))

    return Oracle(init, lambda state, features: features @ state.weight.T, learn)


class NetworkState(NamedTuple):
    """Parameters and their optimiser."""

    net: Any
    optimizer: Any


def network(n_actions: int, n_features: int, *, hidden: tuple[int, ...] = (64,), learning_rate: float = 3e-3) -> Oracle:
    """A small MLP with one output for each action, and one Adam step per row on w·(r − ŷ_a)²/2.

    The last layer begins at zero: nothing is known, and every action scores alike.

    Raises:
        ValueError: the learning rate is not above 0.
    """
    if not learning_rate > 0:
        raise ValueError(f"learning_rate is {learning_rate}; it must be above 0, such as 0.003")
    adam = optax.adam(learning_rate)

    def build(key: Array) -> tuple[MLP, Linear]:
        torso, head = jax.random.split(key)
        width = hidden[-1] if hidden else n_features
        return MLP(n_features, hidden, "relu", key=torso), Linear(width, n_actions, scale=0.0, key=head)

    _, static = eqx.partition(eqx.filter_eval_shape(build, jax.random.key(0)), lambda leaf: hasattr(leaf, "shape"))

    def init(key: Array) -> NetworkState:
        net = eqx.filter(build(key), eqx.is_array)
        return NetworkState(net, adam.init(net))

    def scores(net: Any, x: Float[Array, "d"]) -> Float[Array, "K"]:
        torso, head = eqx.combine(net, static)
        return head(torso(x))

    def predict(state: NetworkState, features: Float[Array, "*B d"]) -> Float[Array, "*B K"]:
        return jnp.vectorize(lambda x: scores(state.net, x), signature="(d)->(k)")(features)

    def learn(state: NetworkState, x: Array, action: Int[Array, ""], reward: Array, weight: ArrayLike) -> NetworkState:
        gradient = jax.grad(lambda net: weight * (reward - scores(net, x)[action]) ** 2 / 2)(state.net)
        change, optimizer = adam.update(gradient, state.optimizer)
        return NetworkState(optax.apply_updates(state.net, change), optimizer)

    return Oracle(init, predict, learn)


ORACLES: dict[str, Callable[..., Oracle]] = {"linear": linear, "gradient": gradient, "network": network}
"""By the name that the command line uses."""
