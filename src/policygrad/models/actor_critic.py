"""Models: what a policy and its critic are made of, and the one place where a network meets a trajectory.

Any ``eqx.Module`` with the two methods of :class:`ActorCritic` serves as a model:
``__call__(input, carry) -> (Output, carry)`` and ``initial() -> carry`` (None where it has no memory).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from gymnasium import spaces
from jaxtyping import Array, Float, PyTree

from policygrad.models.actors import Actor, Head, make_family
from policygrad.models.encoder import Encoder, Vision, make_encoder, normalizable
from policygrad.models.networks import ACTIVATIONS, GRU, LAYOUTS, MLP, Convolution, Linear, Table
from policygrad.models.normalize import Normalizer, RunningStatistics
from policygrad.spaces import unmasked, zeros
from policygrad.types import Input, MaskedObs, Output, Trajectory

PIXELS = 16 * 84 * 84
"""Of the pictures that are looked at together: their patches stay in the processor's cache."""


class Memoryless(eqx.Module):
    """A torso without memory: features ↦ net(features), or the identity where actor and critic are separate
    networks."""

    net: MLP | Vision | None

    def initial(self) -> None:
        return None

    def __call__(self, x: Any, carry: None) -> tuple[Any, None]:
        return (x if self.net is None else self.net(x)), None


class Recurrent(eqx.Module):
    """A torso with memory, for π(a_t | s_{0:t}): features ↦ GRU(net(features), h)."""

    net: MLP | Vision
    cell: GRU

    def initial(self) -> Float[Array, "h"]:
        return jnp.zeros(self.cell.size)

    def __call__(self, x: Any, carry: Float[Array, "h"]) -> tuple[Float[Array, "h"], Float[Array, "h"]]:
        h = self.cell(self.net(x), carry)
        return h, h


class ActorCritic(eqx.Module):
    """π and V. Separate networks: the torso is the identity. No critic: V = 0."""

    encoder: Encoder
    torso: Memoryless | Recurrent
    actor: Actor
    critic: Head | None
    normalizer: Normalizer | None

    def initial(self) -> Any:
        """The carry before the first step of an episode; None where the model has no memory."""
        return self.torso.initial()

    def __call__(self, input: Input, carry: Any) -> tuple[Output, Any]:
        """One step, unbatched. The carry is reset first where ``input.start``."""
        if carry is not None:
            carry = jax.tree.map(lambda new, old: jnp.where(input.start, new, old), self.initial(), carry)
        obs, mask = unmasked(input.obs)
        if self.normalizer is not None:
            obs = self.normalizer.observation(obs)
        x, carry = self.torso(self.encoder(obs, input.time), carry)
        value = jnp.zeros(()) if self.critic is None else self.critic(x)[0]
        return Output(self.actor(x, mask), None, value), carry


class WindowCarry(NamedTuple):
    """What a :class:`FrameWindow` remembers."""

    past: PyTree[Array]
    """The last k − 1 observations, ``[k − 1, ...]``, the newest last; what is older than the episode is ignored."""
    memory: Any
    """The carry of the model behind the window."""


class FrameWindow(eqx.Module):
    """A model that is shown the last k observations, ``[k, ...]``, instead of one.

    A shift register makes the windows, and no network is part of it: :func:`unroll` builds all windows of a trajectory
    by shifting, and hands them to the model in one batch. The register is never reset: the model's encoder hides what
    the time says is older than the episode.
    """

    model: ActorCritic

    @property
    def normalizer(self) -> Normalizer | None:
        """That of single observations."""
        return self.model.normalizer

    @property
    def encoder(self) -> Encoder:
        return self.model.encoder

    @property
    def actor(self) -> Actor:
        return self.model.actor

    @property
    def critic(self) -> Head | None:
        return self.model.critic

    def initial(self) -> WindowCarry:
        k = self.encoder.frames
        blank = jax.tree.map(lambda x: jnp.zeros((k - 1, *x.shape), x.dtype), zeros(self.encoder.space.space))
        return WindowCarry(blank, self.model.initial())

    def __call__(self, input: Input, carry: WindowCarry) -> tuple[Output, WindowCarry]:
        """One step, unbatched."""
        window, past = shift_in(carry.past, input.obs)
        output, memory = self.model(input._replace(obs=window), carry.memory)
        return output, WindowCarry(past, memory)


def shift_in(past: PyTree[Array], obs: PyTree[Array]) -> tuple[PyTree[Array], PyTree[Array]]:
    """The window that ends with ``obs``, and its last k − 1 observations. A mask is that of ``obs``."""
    obs, mask = unmasked(obs)
    window = jax.tree.map(lambda past, x: jnp.concatenate([past, jnp.asarray(x, past.dtype)[None]]), past, obs)
    past = jax.tree.map(lambda x: x[1:], window)
    return (window if mask is None else MaskedObs(window, mask)), past


def all_windows(past: PyTree[Array], obs: PyTree[Array], axes: int) -> tuple[PyTree[Array], PyTree[Array]]:
    """:func:`shift_in` of every row of ``obs`` ``[T, *B, ...]``: windows ``[T, *B, k, ...]`` and registers ``[T, *B,
    k − 1, ...]``. ``past`` is the register before row 0, ``[*B, k − 1, ...]``; B has ``axes`` axes."""
    obs, mask = unmasked(obs)

    def one(past: Array, x: Array) -> Array:
        rows = jnp.concatenate([jnp.moveaxis(past, axes, 0), x.astype(past.dtype)])
        return jnp.stack([rows[i : i + len(x)] for i in range(past.shape[axes] + 1)], axis=1 + axes)

    windows = jax.tree.map(one, past, obs)
    pasts = jax.tree.map(lambda x: jax.lax.slice_in_dim(x, 1, None, axis=1 + axes), windows)
    return (windows if mask is None else MaskedObs(windows, mask)), pasts


def make_model(
    observation_space: spaces.Space,
    action_space: spaces.Space,
    *,
    key: Array,
    policy: str = "mlp",
    net: tuple[int, ...] = (64, 64),
    activation: str = "tanh",
    cnn: str = "auto",
    frames: int = 1,
    shared_torso: bool = False,
    critic: bool = True,
    horizon: int | None = None,
    bounds: str = "clip",
    gsde: bool = False,
    log_std_init: float = 0.0,
    state_dependent_std: bool = False,
    normalize_obs: bool = False,
    normalize_reward: bool = False,
    looped: bool = True,
) -> ActorCritic | FrameWindow:
    """A model that fits the spaces. Observations and actions may be nested: Dicts and Tuples of Box, Discrete,
    MultiDiscrete and MultiBinary.

    Args:
        policy: ``mlp``; ``tabular`` (softmax of a table, Discrete observations only); ``gru`` (memory, one torso for
            both).
        net: hidden layers; for ``gru`` the last one is the size of the memory. With pictures they stand behind the
            convolutions.
        cnn: the convolutions for pictures: ``nature`` (Mnih et al. 2015), ``a3c`` (Mnih et al. 2016), ``minatar``
            (Young & Tian 2019), ``none`` (pictures are flattened); ``auto``: ``nature`` from 36 pixels a side,
            ``minatar`` below that. A picture is a Box of three axes, the first or the last of which is the shortest.
        frames: π and V see the last so many observations, zeros before the episode's start.
        shared_torso: one network with two heads. Pictures want it: otherwise actor and critic have convolutions each.
        horizon: T of a time-to-go policy π(s, T − t); None: the policy does not see the time.
        bounds: how a bounded Box of actions is respected: ``clip`` (a Gaussian; the environment clips), ``tanh`` (a
            squashed Gaussian), ``beta`` (a Beta density).
        gsde: the exploration noise is a function of the state, held over a window.
        log_std_init: initial log standard deviation of a Gaussian.
        state_dependent_std: the standard deviation is an output of the network instead of a parameter.
        normalize_obs: normalise observations by running statistics: all Boxes but pictures.
        normalize_reward: scale rewards by the running spread of the discounted return.
        looped: pictures are seen inside an XLA loop; False: outside one, where another way to convolve is quicker. The
            numbers are the same.

    Raises:
        ValueError: spaces or options that do not fit, with the fix.
    """
    if policy not in ("mlp", "tabular", "gru"):
        raise ValueError(f"unknown policy {policy!r}: choose mlp, tabular or gru")
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
    if bounds not in ("clip", "tanh", "beta"):
        raise ValueError(f"unknown bounds {bounds!r}: choose clip, tanh or beta")
    if gsde and (policy == "tabular" or bounds != "clip" or state_dependent_std):
        raise ValueError(
            "gsde is a Gaussian whose spread comes from a network's features: "
            "use policy mlp or gru and bounds=clip, and drop state_dependent_std"
        )
    tabular, recurrent = policy == "tabular", policy == "gru"
    encoder = make_encoder(observation_space, tabular=tabular, horizon=horizon, frames=frames, cnn=cnn)
    pictures = [] if tabular else encoder.shapes
    n_features = encoder.size + sum(LAYOUTS[layout].dense for layout, _ in pictures)
    torso_key, actor_key, critic_key = jax.random.split(key, 3)

    def body(sizes: tuple[int, ...], key: Array) -> MLP | Vision:
        if pictures:
            return Vision(encoder, sizes, activation, looped=looped, key=key)
        return MLP(encoder.size, sizes, activation, key=key)

    if recurrent:
        if not net:
            raise ValueError("a gru policy needs at least one hidden size: --net 64")
        in_key, cell_key = jax.random.split(torso_key)
        size_in = net[-2] if len(net) > 1 else n_features
        torso: Any = Recurrent(body(net[:-1], in_key), GRU(size_in, net[-1], key=cell_key))
    else:
        shared = shared_torso and not tabular and (net or pictures)
        torso = Memoryless(body(net, torso_key) if shared else None)
    own = torso.net is None and not tabular and bool(net or pictures)
    width = net[-1] if net else n_features

    def head(size: int, scale: float, key: Array) -> Head:
        if tabular:
            return Head(None, Table((*encoder.table, size)))
        net_key, last_key = jax.random.split(key)
        return Head(body(net, net_key) if own else None, Linear(width, size, scale=scale, key=last_key))

    family = make_family(
        action_space,
        bounds=bounds,
        gsde=gsde,
        n_features=width,
        log_std_init=log_std_init,
        state_dependent_std=state_dependent_std,
    )
    actor = Actor(head(family.size, 0.01, actor_key), family)
    normalizer = make_normalizer(encoder, normalize_obs, normalize_reward)
    model = ActorCritic(encoder, torso, actor, head(1, 1.0, critic_key) if critic else None, normalizer)
    return model if frames == 1 else FrameWindow(model)


def make_normalizer(encoder: Encoder, normalize_obs: bool, normalize_reward: bool) -> Normalizer | None:
    """Empty statistics of what is to be normalised."""
    if not (normalize_obs or normalize_reward):
        return None
    like = normalizable(encoder)
    if normalize_obs and not jax.tree.leaves(like):
        raise ValueError(
            "normalize_obs needs a Box in the observation that is no picture; Discrete parts and pictures have nothing "
            "to normalise: drop the option"
        )
    obs = RunningStatistics(like=like) if normalize_obs else None
    return Normalizer(obs, RunningStatistics() if normalize_reward else None)


def is_memoryless(model: Any) -> bool:
    return model.initial() is None


def rows_at_once(model: Any) -> int | None:
    """How many rows with pictures, whose patches are multiplied, the processor's cache has room for; None for a model
    without."""
    layers = jax.tree.leaves(model, is_leaf=lambda x: isinstance(x, Convolution))
    if not any(isinstance(x, Convolution) and x.patches for x in layers):
        return None
    return max(1, PIXELS // sum(h * w for _, (h, w, _) in model.encoder.shapes))


def initial_carry(model: Any, shape: tuple[int, ...]) -> Any:
    """The carries of ``shape`` many fresh episodes; None for a memoryless model."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (*shape, *x.shape)), model.initial())


def unroll(model: Any, trajectory: Trajectory) -> tuple[Output, PyTree[Array]]:
    """The model's outputs along a trajectory, ``[T, *B]``, with log π(a_t | ·), and the carry *after* each row (None
    where memoryless).

    A memoryless model sees one batch of T·B rows; one with memory is scanned over time from ``trajectory.carry``. One
    with a window of frames sees all windows at once, and is scanned only if it has a memory beside.
    """
    if isinstance(model, FrameWindow):
        past, memory = trajectory.carry
        windows, pasts = all_windows(past, trajectory.obs, trajectory.mask.ndim - 1)
        output, memories = unroll(model.model, trajectory._replace(obs=windows, carry=memory))
        return output, WindowCarry(pasts, memories)
    inputs = Input(trajectory.obs, trajectory.time, trajectory.start)
    lead = trajectory.mask.shape
    if is_memoryless(model):  # also where the trajectory holds the memory of another model
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(lead) :]), (inputs, trajectory.action))
        one: Any = lambda row: act(model, row[0], None, row[1])[0]  # noqa: E731
        at_once, n = rows_at_once(model), trajectory.mask.size
        output = jax.vmap(one)(flat) if at_once is None or n <= at_once else jax.lax.map(one, flat, batch_size=at_once)
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
