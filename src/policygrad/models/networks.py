"""Networks: unbatched Equinox modules with orthogonal weights."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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
