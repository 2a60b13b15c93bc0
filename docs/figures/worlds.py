"""Small worlds whose every trajectory is known, and policies for them. Importing this switches JAX to float64."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from policygrad.envs.tabular import TabularMDP
from policygrad.models import make_model

jax.config.update("jax_enable_x64", True)


def policy(mdp: TabularMDP, seed: int = 0, *, scale: float = 0.7) -> Any:
    """A softmax table with normal logits, and a V that is normal too, so wrong."""
    rng = np.random.default_rng(seed)
    empty = make_model(mdp.observation_space, mdp.action_space, key=jax.random.key(0), policy="tabular")
    draw = lambda x: jnp.asarray(scale * rng.normal(size=x.shape)) if eqx.is_inexact_array(x) else x  # noqa: E731
    return jax.tree.map(draw, empty)


def bandit(rewards: Any) -> TabularMDP:
    """One step, one state, one fixed reward per arm."""
    reward = np.reshape(np.asarray(rewards, float), (1, -1, 1))
    return TabularMDP(np.ones(1), np.ones_like(reward), reward, horizon=1)


def with_logits(mdp: TabularMDP, logits: Any) -> Any:
    """The softmax table with these logits."""
    model = policy(mdp)
    table = jnp.asarray(logits, float).reshape(model.actor.head.last.rows.shape)
    return eqx.tree_at(lambda m: m.actor.head.last.rows, model, table)


def norm(tree: Any) -> Any:
    """‖tree‖₂ over all leaves."""
    return jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(tree)))
