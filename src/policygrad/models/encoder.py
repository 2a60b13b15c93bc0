"""What the networks are given of an observation: a vector, pictures, or the row of a table."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from gymnasium import spaces
from jaxtyping import Array, Float, Int, PyTree, Shaped

from policygrad.models.networks import CNN, LAYOUTS, MLP
from policygrad.spaces import StaticSpace, channel_axis, flat, parts, width, zeros

LARGE = LAYOUTS["nature"].smallest
"""Pixels a side from which ``cnn="auto"`` takes the network of Mnih et al. (2015)."""


class Features(NamedTuple):
    """An observation with pictures in it."""

    vector: Float[Array, "n"]
    """All parts that are no pictures, flattened and in a row."""
    pictures: tuple[Shaped[Array, "h w c"], ...]
    """Channels last; bytes are still bytes."""


class Encoder(eqx.Module):
    """Observation, and time-to-go where ``horizon`` is given, to what the networks take.

    The parts of a nested space are flattened and concatenated: one-hots of Discrete and MultiDiscrete, everything else
    as it is. Pictures stay what they are. With ``frames`` > 1 the observation is a window ``[frames, ...]``, the newest
    last: vectors are concatenated, pictures laid over each other along their channels, and what is older than the
    episode is zero.
    """

    space: StaticSpace = eqx.field(static=True)
    layouts: tuple[str, ...] = eqx.field(static=True)
    """For each part the layout of its network; ``none``: it is flattened."""
    horizon: int | None = eqx.field(static=True)
    frames: int = eqx.field(static=True, default=1)
    tabular: bool = eqx.field(static=True, default=False)

    def __call__(self, obs: PyTree[Array], time: Int[Array, ""]) -> Any:
        if self.tabular:
            return obs if self.horizon is None else (jnp.clip(time, 0, self.horizon - 1), obs)
        vector, pictures = self.frame(obs) if self.frames == 1 else self.window(obs, time)
        if self.horizon is not None:
            vector = jnp.append(vector, (self.horizon - time) / self.horizon)
        return Features(vector, pictures) if pictures else vector

    def frame(self, obs: PyTree[Array]) -> Features:
        """One observation."""
        vectors, pictures = [jnp.zeros(0)], []
        for part, layout, x in zip(parts(self.space.space), self.layouts, jax.tree.leaves(obs)):
            if layout == "none":
                vectors.append(flat(part, x))
            else:
                pictures.append(jnp.moveaxis(x, channels_of(part), -1))
        return Features(jnp.concatenate(vectors), tuple(pictures))

    def window(self, obs: PyTree[Array], time: Int[Array, ""]) -> Features:
        """The last ``frames`` observations, of which time + 1 are of this episode."""
        age = jnp.arange(self.frames)[::-1]

        def hide(x: Array) -> Array:
            return jnp.where((age <= time).reshape(-1, *[1] * (x.ndim - 1)), x, jnp.zeros((), x.dtype))

        vectors, pictures = jax.tree.map(hide, jax.vmap(self.frame)(obs))
        overlaid = [jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:3], -1) for x in pictures]
        return Features(jnp.ravel(vectors), tuple(overlaid))

    @property
    def size(self) -> int:
        """The length of the vector."""
        flattened = [part for part, layout in zip(parts(self.space.space), self.layouts) if layout == "none"]
        return self.frames * sum(map(width, flattened)) + (self.horizon is not None)

    @property
    def shapes(self) -> list[tuple[str, tuple[int, int, int]]]:
        """The layout and the shape (h, w, c) of each picture."""
        found = []
        for part, layout in zip(parts(self.space.space), self.layouts):
            if layout != "none":
                height, width, channels = picture_shape(part)
                found.append((layout, (height, width, channels * self.frames)))
        return found

    @property
    def table(self) -> tuple[int, ...]:
        n = width(self.space.space)
        return (n,) if self.horizon is None else (self.horizon, n)


class Vision(eqx.Module):
    """Features ↦ net([vector, CNN(picture), …])."""

    cnns: tuple[CNN, ...]
    net: MLP

    def __init__(self, encoder: Encoder, sizes: tuple[int, ...], activation: str, *, looped: bool, key: Array):
        net_key, *keys = jax.random.split(key, 1 + len(encoder.shapes))
        shapes = zip(encoder.shapes, keys)
        self.cnns = tuple(CNN(shape, layout, patches=looped, key=k) for (layout, shape), k in shapes)
        dense = sum(LAYOUTS[layout].dense for layout, _ in encoder.shapes)
        self.net = MLP(encoder.size + dense, sizes, activation, key=net_key)

    def __call__(self, x: Features) -> Float[Array, "o"]:
        seen = [cnn(picture) for cnn, picture in zip(self.cnns, x.pictures)]
        return self.net(jnp.concatenate([x.vector, *seen]))


def make_encoder(space: spaces.Space, *, tabular: bool, horizon: int | None, frames: int, cnn: str) -> Encoder:
    """The encoder of a space.

    Raises:
        ValueError: a table of anything but a Discrete, or a ``cnn`` without a picture.
    """
    if tabular and not isinstance(space, spaces.Discrete):
        raise ValueError(f"a tabular policy needs a Discrete observation space, not {space}: use policy mlp")
    if tabular and frames > 1:
        raise ValueError("a tabular policy sees one observation: set frames=1, or use policy mlp")
    if cnn not in ("auto", "none", *LAYOUTS):
        raise ValueError(f"unknown cnn {cnn!r}: choose auto, none, {', '.join(LAYOUTS)}")
    layouts = tuple(layout_of(part, cnn) for part in parts(space))
    if cnn in LAYOUTS and set(layouts) == {"none"}:
        raise ValueError(
            f"cnn={cnn} needs a picture, a Box of three axes whose first or last is the shortest, "
            f"and the observation space is {space}: drop cnn"
        )
    return Encoder(StaticSpace(space), layouts, horizon, frames, tabular)


def layout_of(part: spaces.Space, cnn: str) -> str:
    """The layout of one part. ``auto``: ``nature`` from 36 pixels a side, ``minatar`` below that."""
    if cnn == "none" or channel_axis(part) is None:
        return "none"
    if cnn != "auto":
        return cnn
    side = min(picture_shape(part)[:2])
    if side >= LARGE:
        return "nature"
    return "minatar" if side >= LAYOUTS["minatar"].smallest else "none"


def picture_shape(space: Any) -> tuple[int, int, int]:
    """(h, w, c), wherever the channels are."""
    axis, shape = channels_of(space), space.shape
    return (shape[1], shape[2], shape[0]) if axis == 0 else shape


def channels_of(picture: spaces.Space) -> int:
    """:func:`policygrad.spaces.channel_axis` of what is known to be a picture."""
    axis = channel_axis(picture)
    assert axis is not None
    return axis


def normalizable(encoder: Encoder) -> PyTree[Array]:
    """Zeros where an observation has parts to normalise, Boxes that are no pictures; None elsewhere."""
    space = encoder.space.space
    leaves, structure = jax.tree.flatten(zeros(space))
    chosen = [
        x if isinstance(part, spaces.Box) and layout == "none" else None
        for part, layout, x in zip(parts(space), encoder.layouts, leaves)
    ]
    return jax.tree.unflatten(structure, chosen)
