"""JAX's own Threefry generator in a form that fuses: the same keys, the same bits, fewer operations on small arrays.

On CPU JAX runs the twenty rounds of Threefry-2x32 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3")
as a loop, which saves compile time and suits large arrays. A window of a few hundred numbers spends most of its time in
that loop's bookkeeping; written out, the rounds become part of the kernel that uses them.
"""

import math
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
from jaxtyping import Array, PyTree, UInt32

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key: UInt32[Array, "2"], high: UInt32[Array, "*s"], low: UInt32[Array, "*s"]) -> tuple[Array, Array]:
    """The 64-bit block (high, low) enciphered by the 64-bit key, in 20 rounds."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    x, y = high + keys[0], low + keys[1]
    for block in range(5):
        for rotation in ROTATIONS[block % 2]:
            x = x + y
            y = x ^ ((y << rotation) | (y >> (32 - rotation)))
        x, y = x + keys[(block + 1) % 3], y + keys[(block + 2) % 3] + jnp.uint32(block + 1)
    return x, y


def counters(shape: tuple[int, ...]) -> tuple[UInt32[Array, "*s"], UInt32[Array, "*s"]]:
    """0, 1, 2, … as 64-bit numbers of that shape: their high and low words."""
    low = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    return jnp.zeros_like(low), low


def split(key: Array, shape: tuple[int, ...]) -> Array:
    return jnp.stack(threefry(key, *counters(shape)), axis=-1)


def random_bits(key: Array, width: int, shape: tuple[int, ...]) -> Array:
    high, low = threefry(key, *counters(shape))
    if width == 64:
        return (high.astype(jnp.uint64) << 32) | low.astype(jnp.uint64)
    return (high ^ low).astype(f"uint{width}")


def fold_in(key: Array, data: Any) -> Array:
    zero = jnp.zeros((), jnp.uint32)
    return jnp.stack(threefry(key, zero, jnp.asarray(data).astype(jnp.uint32)))


def seed(number: Array) -> Array:
    return jax.random.key_data(jax.random.key(number, impl="threefry2x32"))


UNROLLED = jax.extend.random.define_prng_impl(
    key_shape=(2,),
    seed=seed,
    split=split,
    random_bits=random_bits,
    fold_in=fold_in,
    name="threefry2x32-unrolled",
    tag="frn",
)


def unrolled(key: Array) -> Array:
    """The same Threefry key, whose random numbers are computed in the fused form. Other kinds of keys are returned as
    they are."""
    if not getattr(jax.config, "jax_threefry_partitionable", False) or jax.random.key_impl(key) != "threefry2x32":
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=UNROLLED)


def standard(tree: PyTree) -> PyTree:
    """The inverse of :func:`unrolled`, for every key in a tree; everything else stays as it is."""

    def one(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) or jax.random.key_impl(leaf) != UNROLLED:
            return leaf
        return jax.random.wrap_key_data(jax.random.key_data(leaf), impl="threefry2x32")

    return jax.tree.map(one, tree)
