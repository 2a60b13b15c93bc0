"""Models: what a policy and its critic are made of, and the one place where a network meets a trajectory.

Any ``eqx.Module`` with the two methods of :class:`ActorCritic` serves as a model:
``__call__(input, carry) -> (Output, carry)`` and ``initial() -> carry`` (None where it has no memory).
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from gymnasium import spaces
from jaxtyping import Array, Float, PyTree

from policygrad.models.distributions import Categorical, DiagGaussian, TanhGaussian
from policygrad.models.networks import ACTIVATIONS, GRU, MLP, Linear, Table
from policygrad.models.normalize import Normalizer, RunningStatistics
from policygrad.types import Input, Output, Trajectory

LOG_STD_RANGE = (-20.0, 2.0)


class Encoder(eqx.Module):
    """Observation, and time-to-go where ``horizon`` is given, to what the networks take: a vector, or an index for
    tables."""

    kind: str = eqx.field(static=True)
    """``box``: flattened; ``onehot``: a Discrete as a unit vector; ``index``: a Discrete as it is, for tables."""
    n: int = eqx.field(static=True)
    horizon: int | None = eqx.field(static=True)

    def __call__(self, obs: Array, time: Array) -> Any:
        if self.kind == "index":
            return obs if self.horizon is None else (jnp.clip(time, 0, self.horizon - 1), obs)
        x = jax.nn.one_hot(obs, self.n) if self.kind == "onehot" else jnp.ravel(obs)
        return x if self.horizon is None else jnp.append(x, (self.horizon - time) / self.horizon)

    @property
    def size(self) -> int:
        return self.n + (self.horizon is not None)

    @property
    def table(self) -> tuple[int, ...]:
        return (self.n,) if self.horizon is None else (self.horizon, self.n)


class Memoryless(eqx.Module):
    """A torso without memory: features ↦ net(features), or the identity where actor and critic are separate
    networks."""

    net: MLP | None

    def initial(self) -> None:
        return None

    def __call__(self, x: Any, carry: None) -> tuple[Any, None]:
        return (x if self.net is None else self.net(x)), None


class Recurrent(eqx.Module):
    """A torso with memory, for π(a_t | s_{0:t}): features ↦ GRU(net(features), h)."""

    net: MLP
    cell: GRU

    def initial(self) -> Float[Array, "h"]:
        return jnp.zeros(self.cell.size)

    def __call__(self, x: Float[Array, "i"], carry: Float[Array, "h"]) -> tuple[Float[Array, "h"], Float[Array, "h"]]:
        h = self.cell(self.net(x), carry)
        return h, h


class Head(eqx.Module):
    """features ↦ a vector: hidden layers (none where the torso is shared) and a last linear layer, or a table."""

    net: MLP | None
    last: Linear | Table

    def __call__(self, x: Any) -> Float[Array, "o"]:
        return self.last(x if self.net is None else self.net(x))


class CategoricalActor(eqx.Module):
    """Multinomial policy over Discrete actions: softmax of the head."""

    head: Head

    def __call__(self, x: Any) -> Categorical:
        return Categorical(self.head(x))


class GaussianActor(eqx.Module):
    """Gaussian policy over Box actions. ``log_std`` is a parameter, or, where None, the second half of the head.
    ``tanh`` squashes into the bounds."""

    head: Head
    log_std: Float[Array, "d"] | None
    bounds: tuple[Any, Any] | None = eqx.field(static=True)

    def __call__(self, x: Any) -> DiagGaussian | TanhGaussian:
        out = self.head(x)
        mean, log_std = (out, self.log_std) if self.log_std is not None else jnp.split(out, 2)
        if self.log_std is None:
            log_std = jnp.clip(log_std, *LOG_STD_RANGE)
        if self.bounds is None:
            return DiagGaussian(mean, log_std)
        low, high = (jnp.asarray(bound, mean.dtype) for bound in self.bounds)
        return TanhGaussian(mean, log_std, low, high)


class ActorCritic(eqx.Module):
    """π and V. Separate networks: the torso is the identity. No critic: V = 0."""

    encoder: Encoder
    torso: Memoryless | Recurrent
    actor: CategoricalActor | GaussianActor
    critic: Head | None
    normalizer: Normalizer | None

    def initial(self) -> Any:
        """The carry before the first step of an episode; None where the model has no memory."""
        return self.torso.initial()

    def __call__(self, input: Input, carry: Any) -> tuple[Output, Any]:
        """One step, unbatched. The carry is reset first where ``input.start``."""
        if carry is not None:
            carry = jax.tree.map(lambda new, old: jnp.where(input.start, new, old), self.initial(), carry)
        obs = input.obs if self.normalizer is None else self.normalizer.observation(input.obs)
        x, carry = self.torso(self.encoder(obs, input.time), carry)
        distribution = self.actor(x)
        value = jnp.zeros(()) if self.critic is None else self.critic(x)[0]
        return Output(distribution, None, value), carry


def make_model(
    observation_space: spaces.Space,
    action_space: spaces.Space,
    *,
    key: Array,
    policy: str = "mlp",
    net: tuple[int, ...] = (64, 64),
    activation: str = "tanh",
    shared_torso: bool = False,
    critic: bool = True,
    horizon: int | None = None,
    log_std_init: float = 0.0,
    state_dependent_std: bool = False,
    squash: bool = False,
    normalize_obs: bool = False,
    normalize_reward: bool = False,
) -> ActorCritic:
    """A model that fits the spaces.

    Args:
        policy: ``mlp``; ``tabular`` (softmax of a table, Discrete observations only); ``gru`` (memory, one torso for
            both).
        net: hidden layers; for ``gru`` the last one is the size of the memory.
        horizon: T of a time-to-go policy π(s, T − t); None: the policy does not see the time.
        log_std_init: initial log standard deviation of a Gaussian.
        state_dependent_std: the standard deviation is an output of the network instead of a parameter.
        squash: tanh-squash the Gaussian into the bounds.

    Raises:
        ValueError: spaces or options that do not fit, with the fix.
    """
    if policy not in ("mlp", "tabular", "gru"):
        raise ValueError(f"unknown policy {policy!r}: choose mlp, tabular or gru")
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
    encoder = make_encoder(observation_space, tabular=policy == "tabular", horizon=horizon)
    torso_key, actor_key, critic_key = jax.random.split(key, 3)
    if policy == "tabular":
        torso: Any = Memoryless(None)
    elif policy == "gru":
        if not net:
            raise ValueError("a gru policy needs at least one hidden size: --net 64")
        in_key, cell_key = jax.random.split(torso_key)
        torso = Recurrent(
            MLP(encoder.size, net[:-1], activation, key=in_key),
            GRU(net[-2] if len(net) > 1 else encoder.size, net[-1], key=cell_key),
        )
    else:
        torso = Memoryless(MLP(encoder.size, net, activation, key=torso_key) if shared_torso and net else None)
    own = () if policy == "gru" or shared_torso else net
    width = net[-1] if net else encoder.size

    def head(size: int, scale: float, key: Array) -> Head:
        if policy == "tabular":
            return Head(None, Table((*encoder.table, size)))
        net_key, last_key = jax.random.split(key)
        return Head(
            MLP(encoder.size, own, activation, key=net_key) if own else None,
            Linear(width, size, scale=scale, key=last_key),
        )

    actor = make_actor(action_space, head, actor_key, log_std_init, state_dependent_std, squash)
    normalizer = None
    if normalize_obs or normalize_reward:
        if normalize_obs and encoder.kind != "box":
            raise ValueError(
                "normalize_obs needs a Box observation; a Discrete one has nothing to normalise: drop the option"
            )
        obs = RunningStatistics(observation_space.shape) if normalize_obs else None  # type: ignore[arg-type]
        normalizer = Normalizer(obs, RunningStatistics() if normalize_reward else None)
    return ActorCritic(encoder, torso, actor, head(1, 1.0, critic_key) if critic else None, normalizer)


def make_encoder(space: spaces.Space, *, tabular: bool, horizon: int | None) -> Encoder:
    if isinstance(space, spaces.Discrete):
        return Encoder("index" if tabular else "onehot", int(space.n), horizon)
    if tabular:
        raise ValueError(f"a tabular policy needs a Discrete observation space, not {space}: use policy mlp")
    if isinstance(space, spaces.Box):
        return Encoder("box", math.prod(space.shape), horizon)
    raise ValueError(
        f"observation space {space} is not supported: flatten it to a Box or a Discrete "
        "(gymnasium.wrappers.FlattenObservation)"
    )


def make_actor(
    space: spaces.Space, head: Any, key: Array, log_std_init: float, state_dependent_std: bool, squash: bool
) -> Any:
    if isinstance(space, spaces.Discrete):
        if state_dependent_std or squash:
            raise ValueError(
                "state_dependent_std and squash belong to Gaussian policies and the action space is Discrete: drop them"
            )
        return CategoricalActor(head(int(space.n), 0.01, key))
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        if squash and not space.is_bounded():
            raise ValueError(f"squash needs a bounded action space, not {space}: drop it")
        bounds = (tuple(space.low.tolist()), tuple(space.high.tolist())) if squash else None
        d = space.shape[0]
        if not state_dependent_std:
            return GaussianActor(head(d, 0.01, key), jnp.full(d, float(log_std_init)), bounds)
        actor = GaussianActor(head(2 * d, 0.01, key), None, bounds)
        if isinstance(actor.head.last, Table):
            return eqx.tree_at(lambda a: a.head.last.rows, actor, actor.head.last.rows.at[..., d:].set(log_std_init))
        return eqx.tree_at(lambda a: a.head.last.bias, actor, actor.head.last.bias.at[d:].set(log_std_init))
    raise ValueError(f"action space {space} is not supported: Discrete and one-dimensional Box are")


def is_memoryless(model: Any) -> bool:
    return model.initial() is None


def initial_carry(model: Any, shape: tuple[int, ...]) -> Any:
    """The carries of ``shape`` many fresh episodes; None for a memoryless model."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (*shape, *x.shape)), model.initial())


def unroll(model: Any, trajectory: Trajectory) -> tuple[Output, PyTree[Array]]:
    """The model's outputs along a trajectory, ``[T, *B]``, with log π(a_t | ·), and the carry *after* each row (None
    where memoryless).

    A memoryless model sees one batch of T·B rows; one with memory is scanned over time from ``trajectory.carry``.
    """
    inputs = Input(trajectory.obs, trajectory.time, trajectory.start)
    lead = trajectory.mask.shape
    if is_memoryless(model):  # also where the trajectory holds the memory of another model
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(lead) :]), (inputs, trajectory.action))
        memoryless: Any = jax.vmap(lambda input, action: act(model, input, None, action)[0])
        output = memoryless(*flat)
        return jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), output), None

    def step(carry, row):
        one: Any = jax.vmap(lambda input, action, carry: act(model, input, carry, action))
        output, carry = one(*row, carry)
        return carry, (output, carry)

    size = trajectory.mask[0].size
    rows = jax.tree.map(lambda x: x.reshape(lead[0], size, *x.shape[len(lead) :]), (inputs, trajectory.action))
    carry = jax.tree.map(lambda x: x.reshape(size, *x.shape[len(lead) - 1 :]), trajectory.carry)
    return jax.tree.map(lambda x: x.reshape(*lead, *x.shape[2:]), jax.lax.scan(step, carry, rows)[1])


def act(model: Any, input: Input, carry: Any, action: Any) -> tuple[Output, Any]:
    """The model's output at one row, with log π(action)."""
    output, carry = model(input, carry)
    return output._replace(log_prob=output.distribution.log_prob(action)), carry


def values(model: Any, obs: PyTree[Array], time: Array, carry: Any) -> Float[Array, "*B"]:
    """V of a batch of observations in the middle of their episodes, each with its carry."""
    lead = time.shape
    flat = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[len(lead) :]), (Input(obs, time, jnp.zeros(lead, bool)), carry)
    )
    return jax.vmap(lambda input, carry: model(input, carry)[0].value)(*flat).reshape(lead)
