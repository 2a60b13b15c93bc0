"""Networks: unbatched Equinox modules with orthogonal weights."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

ACTIVATIONS: Mapping[str, Callable] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "elu": jax.nn.elu,
}


def orthogonal(key: Array, shape: tuple[int, int]) -> Float[Array, "o i"]:
    """A random matrix with orthonormal rows or columns, whichever are fewer (Saxe et al. 2014).

    Under ``vmap`` the matrices are drawn in turn: a *batch* of QR decompositions loses work in XLA's thread pool on the
    CPU and then waits for ever (seen with jaxlib 0.10.2, two threads, in three starts of four).
    """
    return jax.custom_batching.sequential_vmap(lambda k: jax.nn.initializers.orthogonal()(k, shape))(key)


class Linear(eqx.Module):
    """y = Wx + b, with W orthogonal times ``scale`` and b zero."""

    weight: Float[Array, "o i"]
    bias: Float[Array, "o"]

    def __init__(self, size_in: int, size_out: int, *, scale: float = 1.0, key: Array):
        self.weight = scale * orthogonal(key, (size_out, size_in))
        self.bias = jnp.zeros(size_out)

    def __call__(self, x: Float[Array, "i"]) -> Float[Array, "o"]:
        return self.weight @ x + self.bias


class MLP(eqx.Module):
    """Hidden layers ``sizes``, each followed by the activation. Weights are scaled by √2, as the field does (Engstrom
    et al. 2020)."""

    layers: tuple[Linear, ...]
    activation: str = eqx.field(static=True)

    def __init__(self, size_in: int, sizes: tuple[int, ...], activation: str = "tanh", *, key: Array):
        keys = jax.random.split(key, max(len(sizes), 1))
        ins = (size_in, *sizes)
        self.layers = tuple(Linear(i, o, scale=2**0.5, key=k) for i, o, k in zip(ins, sizes, keys))
        self.activation = activation

    def __call__(self, x: Float[Array, "i"]) -> Float[Array, "o"]:
        for layer in self.layers:
            x = ACTIVATIONS[self.activation](layer(x))
        return x


class Layout(NamedTuple):
    """A convolutional network: layers of (channels, kernel, stride) and one dense layer behind them, all with relu."""

    convolutions: tuple[tuple[int, int, int], ...]
    dense: int

    @property
    def smallest(self) -> int:
        """The least number of pixels a side."""
        size = 1
        for _, kernel, stride in reversed(self.convolutions):
            size = (size - 1) * stride + kernel
        return size


LAYOUTS: Mapping[str, Layout] = {
    "nature": Layout(((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512),
    "a3c": Layout(((16, 8, 4), (32, 4, 2)), 256),
    "minatar": Layout(((16, 3, 1),), 128),
}
"""Mnih et al. (2015), "Human-level control through deep reinforcement learning"; Mnih et al. (2016), "Asynchronous
methods for deep reinforcement learning"; Young & Tian (2019), "MinAtar"."""


class Convolution(eqx.Module):
    """A convolution without padding, relu behind it. The channels are the last axis; the kernel is a multiple of the
    stride.

    With ``patches`` it is one matrix product, of all patches with the kernel: the picture is cut into blocks of stride
    × stride pixels, and a patch is a few whole blocks. On a CPU XLA's own convolution is up to a quarter quicker than
    that outside a loop, and twenty times slower inside one.
    """

    weight: Float[Array, "k k i o"]
    bias: Float[Array, "o"]
    stride: int = eqx.field(static=True)
    patches: bool = eqx.field(static=True)

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, *, patches: bool, key: Array):
        weight = 2**0.5 * orthogonal(key, (channels_out, kernel * kernel * channels_in))
        self.weight = weight.T.reshape(kernel, kernel, channels_in, channels_out)
        self.bias, self.stride, self.patches = jnp.zeros(channels_out), stride, patches

    def __call__(self, x: Float[Array, "h w i"]) -> Float[Array, "h' w' o"]:
        return jax.nn.relu((self.of_patches(x) if self.patches else self.direct(x)) + self.bias)

    def direct(self, x: Float[Array, "h w i"]) -> Float[Array, "h' w' o"]:
        strides, dimensions = (self.stride, self.stride), ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x[None], self.weight, strides, "VALID", dimension_numbers=dimensions)[0]

    def of_patches(self, x: Float[Array, "h w i"]) -> Float[Array, "h' w' o"]:
        (kernel, _, channels, size), s = self.weight.shape, self.stride
        m = kernel // s  # a patch has m × m blocks
        high, wide = ((n - kernel) // s + 1 for n in x.shape[:2])
        blocks = x[: (high + m - 1) * s, : (wide + m - 1) * s].reshape(high + m - 1, s, wide + m - 1, s, channels)
        blocks = jnp.moveaxis(blocks, 1, 2).reshape(high + m - 1, wide + m - 1, s * s * channels)
        patches = [blocks[i : i + high, j : j + wide] for i in range(m) for j in range(m)]
        weight = jnp.moveaxis(self.weight.reshape(m, s, m, s, channels, size), 1, 2).reshape(-1, size)
        return jnp.concatenate(patches, axis=-1) @ weight


class CNN(eqx.Module):
    """A picture ↦ a vector, by one of :data:`LAYOUTS`.

    Bytes stay bytes until here, and are divided by 255.

    Raises:
        ValueError: a picture that is too small, with a layout that fits.
    """

    convolutions: tuple[Convolution, ...]
    dense: Linear

    def __init__(self, shape: tuple[int, int, int], layout: str, *, patches: bool = True, key: Array):
        height, width, channels = shape
        convolutions, dense = LAYOUTS[layout]
        require_large_enough(shape, layout)
        *conv_keys, dense_key = jax.random.split(key, len(convolutions) + 1)
        layers = []
        for (out, kernel, stride), conv_key in zip(convolutions, conv_keys):
            layers.append(Convolution(channels, out, kernel, stride, patches=patches, key=conv_key))
            height, width, channels = (height - kernel) // stride + 1, (width - kernel) // stride + 1, out
        self.convolutions = tuple(layers)
        self.dense = Linear(height * width * channels, dense, scale=2**0.5, key=dense_key)

    def __call__(self, picture: Shaped[Array, "h w c"]) -> Float[Array, "o"]:
        x = picture.astype(self.dense.bias.dtype)
        if picture.dtype == jnp.uint8:
            x = x / 255
        for layer in self.convolutions:
            x = layer(x)
        return jax.nn.relu(self.dense(jnp.ravel(x)))


def require_large_enough(shape: tuple[int, int, int], layout: str) -> None:
    """A ValueError where the layout's kernels do not fit into the picture."""
    side = min(shape[:2])
    if side >= LAYOUTS[layout].smallest:
        return
    fitting = [name for name, other in LAYOUTS.items() if side >= other.smallest]
    fix = f"set cnn={fitting[0]}" if fitting else "set cnn=none, which flattens it"
    raise ValueError(
        f"cnn={layout} needs pictures of at least {LAYOUTS[layout].smallest} pixels a side, and this one has "
        f"{shape[0]} × {shape[1]}: {fix}"
    )


class Table(eqx.Module):
    """One row of numbers for each of ``n`` inputs: x ↦ table[x]. The tabular case of every network."""

    rows: Float[Array, "*n k"]

    def __init__(self, shape: tuple[int, ...]):
        self.rows = jnp.zeros(shape)

    def __call__(self, index: Any) -> Float[Array, "k"]:
        return self.rows[index]


class GRU(eqx.Module):
    """Gated recurrent unit: (x, h) ↦ h'. Cho et al. (2014)."""

    cell: eqx.nn.GRUCell

    def __init__(self, size_in: int, size: int, *, key: Array):
        self.cell = eqx.nn.GRUCell(size_in, size, key=key)

    @property
    def size(self) -> int:
        return self.cell.hidden_size

    def __call__(self, x: Float[Array, "i"], h: Float[Array, "h"]) -> Float[Array, "h"]:
        return self.cell(x, h)
