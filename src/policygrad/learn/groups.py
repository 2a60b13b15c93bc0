"""The gradients of many rungs at once, for groups of trajectories: what measuring them costs.

    ĝ_k = Σ_t Ψ_{k,t} ∇log π(a_t)                for rungs k = 1 … K

is linear in Ψ, so log π is linearised once for all rungs. In a linear layer y = Wx + b it is even simpler: one row's
gradient is an outer product, ∂log π/∂W = δxᵀ with δ = ∂log π/∂y, and neither δ nor x knows Ψ. They are computed once,
and a rung then costs no more than one matrix product a layer,

    ∂/∂W Σ_t Ψ_{k,t} log π(a_t) = Σ_t (Ψ_{k,t} δ_t) x_tᵀ.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from policygrad.models.actor_critic import ActorCritic, act, unroll
from policygrad.models.networks import MLP, Linear
from policygrad.types import COLUMNS, Input, Trajectory

SMALL = 1 << 17
"""Parameters of a network whose gradients for several weights are computed side by side."""
FEW = 2
"""Up to so many rungs the general way is as quick."""
ROWS = 1024
"""Rows that are looked at together: weighted by every rung they still stay in the processor's cache."""


def gradient_groups(
    model: Any, trajectory: Trajectory, weights: Float[Array, "K T B"], groups: int
) -> Float[Array, "K groups d"]:
    """The gradients of K rungs for equal groups of neighbouring trajectories, each a mean over its group, all leaves in
    one vector."""
    n_steps, size = weights.shape[1], weights.shape[2] // groups
    one, rows = (by_layers, ROWS) if len(weights) > FEW and is_layered(model) else (by_transposing, 4096)

    def split(axis: int, leaf: Any) -> Any:
        def part(x: Array) -> Array:
            return jnp.moveaxis(x.reshape(*x.shape[:axis], groups, size, *x.shape[axis + 1 :]), axis, 0)

        return jax.tree.map(part, leaf)

    parts = jax.tree.map(split, COLUMNS, trajectory), split(2, weights / size)
    at_once = max(1, min(groups, rows // (n_steps * size)))  # so many rows stay in the processor's cache
    return jnp.moveaxis(jax.lax.map(lambda part: one(model, *part), parts, batch_size=at_once), 0, 1)


def by_transposing(model: Any, trajectory: Trajectory, weights: Float[Array, "K T B"]) -> Float[Array, "K d"]:
    """Σ Ψ_k ∇log π for any model: the transpose of one linearisation, K times."""
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def log_probs(params: PyTree) -> Array:
        log_prob = unroll(eqx.combine(params, static), trajectory)[0].log_prob
        return jnp.where(trajectory.mask, log_prob, 0)

    transposed = jax.vjp(log_probs, params)[1]
    small = sum(x.size for x in jax.tree.leaves(params)) < SMALL
    together = len(weights) if small else 1  # side by side is twice as quick, while it stays in the cache
    return jax.lax.map(lambda w: ravel_pytree(transposed(w)[0])[0], weights, batch_size=together)


def is_layered(model: Any) -> bool:
    """Whether a model is ours, without memory, and made of linear layers that see each row once."""
    if not isinstance(model, ActorCritic) or model.initial() is not None:
        return False
    heads = [head for head in (model.actor.head, model.critic) if head is not None]
    nets = [model.torso.net, *(head.net for head in heads)]
    return all(isinstance(net, MLP | None) for net in nets) and all(isinstance(head.last, Linear) for head in heads)


def is_linear(node: Any) -> bool:
    return isinstance(node, Linear)


def by_layers(model: Any, trajectory: Trajectory, weights: Float[Array, "K T B"]) -> Float[Array, "K d"]:
    """Σ Ψ_k ∇log π for a model of linear layers, summed over chunks of rows that stay in the processor's cache."""
    lead = trajectory.mask.ndim
    rows: Any = Input(trajectory.obs, trajectory.time, trajectory.start), trajectory.action, trajectory.mask
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[lead:]), rows)
    weights = jnp.where(trajectory.mask, weights, 0).reshape(len(weights), -1)
    summed = lambda part: of_rows(model, *part)  # noqa: E731
    chunks = -(-weights.shape[1] // ROWS)
    if chunks == 1:
        return summed((*rows, weights))
    missing = -weights.shape[1] % chunks
    rows = jax.tree.map(lambda x: jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1), mode="edge"), rows)
    weights = jnp.pad(weights, ((0, 0), (0, missing)))  # a weight of zero: what a row is does not matter then
    parts = jax.tree.map(lambda x: x.reshape(chunks, -1, *x.shape[1:]), rows)
    parts = (*parts, jnp.moveaxis(weights.reshape(len(weights), chunks, -1), 1, 0))
    first = jax.tree.map(lambda x: x[0], parts)
    zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(summed, first))
    return jax.lax.scan(lambda total, part: (total + summed(part), None), zero, parts)[0]


def of_rows(
    model: Any, inputs: Input, action: Any, mask: Bool[Array, "N"], weights: Float[Array, "K N"]
) -> Float[Array, "K d"]:
    """Each layer's x and δ once, then one matrix product.

    Every layer gets a perturbation ε of each row's output, whose gradient at ε = 0 is δ. Ψ is multiplied to the shorter
    of δ and x. What is no linear layer (such as a Gaussian's log σ) is transposed K times.
    """
    nodes, structure = jax.tree.flatten(model, is_leaf=is_linear)
    layers = [i for i, node in enumerate(nodes) if is_linear(node)]
    others = [i for i, node in enumerate(nodes) if eqx.is_inexact_array(node)]

    def log_probs(epsilon: dict[int, Array], numbers: dict[int, Array]) -> tuple[Array, dict[int, Array]]:
        def row(epsilon: dict[int, Array], input: Input, action: Any) -> tuple[Array, dict[int, Array]]:
            seen: dict[int, Array] = {}
            taps = {i: tap(i, nodes[i], epsilon[i], seen) for i in layers}
            replaced = taps | numbers
            tapped = jax.tree.unflatten(structure, [replaced.get(i, node) for i, node in enumerate(nodes)])
            return act(tapped, input, None, action)[0].log_prob, seen

        log_prob, seen = jax.vmap(row)(epsilon, inputs, action)
        return jnp.where(mask, log_prob, 0), seen

    zero = {i: jnp.zeros((mask.size, *nodes[i].bias.shape), nodes[i].bias.dtype) for i in layers}
    numbers = {i: nodes[i] for i in others}
    _, transposed, x = jax.vjp(lambda epsilon: log_probs(epsilon, numbers), zero, has_aux=True)
    (delta,) = transposed(jnp.ones(mask.size, weights.dtype))
    found = {i: jnp.concatenate([outer(weights, delta[i], x[i]), weights @ delta[i]], axis=-1) for i in layers}
    if others:
        through = jax.vjp(lambda numbers: log_probs(zero, numbers)[0], numbers)[1]
        (moved,) = jax.vmap(through)(weights)
        found |= {i: moved[i].reshape(len(weights), -1) for i in others}
    return jnp.concatenate([found[i] for i in sorted(found)], axis=-1)


def outer(weights: Float[Array, "K N"], delta: Float[Array, "N o"], x: Float[Array, "N i"]) -> Float[Array, "K oi"]:
    """Σ_t Ψ_{k,t} δ_t x_tᵀ."""
    n_rungs, (n, o), i = len(weights), delta.shape, x.shape[1]
    if i < o:
        product = (weights[:, None, :] * x.T).reshape(-1, n) @ delta
        return jnp.swapaxes(product.reshape(n_rungs, i, o), 1, 2).reshape(n_rungs, -1)
    return ((weights[:, None, :] * delta.T).reshape(-1, n) @ x).reshape(n_rungs, -1)


def tap(i: int, layer: Linear, epsilon: Array, seen: dict[int, Array]) -> Callable[[Array], Array]:
    """The layer with its output moved by ε; what it was given is noted in ``seen``."""

    def call(x: Array) -> Array:
        seen[i] = x
        return layer(x) + epsilon

    return call
