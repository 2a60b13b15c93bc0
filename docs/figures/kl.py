"""Both directions of the divergence: what each fits, what its estimators cost, and what learning has to do with it."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import jax.numpy as jnp
import numpy as np
from style import BLUE, DASHED, DOTTED, FAINT, GREEN, GREY, IMAGES, RED, canvas, label, save

from policygrad.envs.tabular import TabularMDP, random_mdp
from policygrad.learn.divergence import estimator_moments, fit, kl, log_probs
from policygrad.measure.exact import possible_paths
from policygrad.models import DiagGaussian, Mixture
from policygrad.storage.checkpoint import write_atomically

ALPHA, SEEDS, SLIPS = 1.0, 20, np.array([0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5])
jax.config.update("jax_enable_x64", True)


def normal(mean, std):
    return DiagGaussian(jnp.array([float(mean)]), jnp.log(jnp.array([float(std)])))


def slippery(seed, slip):
    """A random world of certain moves, but that action 1 goes elsewhere with probability ``slip``."""
    mdp = random_mdp(seed, 4, 2, branching=1, n_rewards=1, horizon=3)
    other = np.roll(mdp.transition, 1, axis=-1)
    reward = np.broadcast_to(np.sum(mdp.transition[..., None] * mdp.reward_value, axis=2, keepdims=True), (4, 2, 4, 1))
    chance = np.array([0, slip])[:, None]
    return TabularMDP(mdp.initial, (1 - chance) * mdp.transition + chance * other, reward, horizon=3)


@jax.jit
def gradients(logits, state, action, dynamics, ret):
    """For a softmax table, over every path: ∇D(p_θ‖P), ∇D(p_θ‖P̃) and ∇J_soft/α."""

    def gradient(f):
        def expected(logits):
            log_pi = jnp.sum(jax.nn.log_softmax(logits)[state, action], axis=0)
            return jnp.sum(jnp.exp(dynamics + log_pi) * f(log_pi))

        return jax.grad(expected)(logits)

    divergence = lambda log_target: gradient(lambda log_pi: dynamics + log_pi - log_target)  # noqa: E731
    return divergence(dynamics + ret), divergence(ret), gradient(lambda log_pi: ret - log_pi)


def left_out(seed, slip):
    """‖∇D(p_θ‖P̃) + ∇J_soft/α‖/‖∇J_soft/α‖, with P̃ ∝ e^{R/α}: P without the dynamics."""
    mdp = slippery(seed, slip)
    paths = possible_paths(mdp)
    logits, dynamics = np.random.default_rng(seed).normal(size=(4, 2)), np.log(paths.probability)
    ret = mdp.reward_value[paths.state, paths.action, paths.successor, 0].sum(axis=0) / ALPHA
    right, wrong, soft = gradients(logits, paths.state, paths.action, dynamics, ret)
    assert np.abs(right + soft).max() < 1e-12, "with the dynamics in P the two are equal"
    return np.linalg.norm(wrong + soft) / np.linalg.norm(soft)


figure, (fits, spread, world) = canvas(3, width=11.0, height=3.6)

# What each direction fits
target, start = Mixture((normal(-2, 0.6), normal(2, 0.6)), jnp.log(jnp.array([0.3, 0.7]))), normal(0.5, 1.5)
x = np.linspace(-6, 6, 400)
density = jax.jit(lambda d: jnp.exp(log_probs(d, jnp.asarray(x)[:, None])))
fits.fill_between(x, density(target), color=FAINT, linewidth=0)
fits.plot(x, density(target), color=GREY, linewidth=1)
for way, color, dashes, place in (("forward", BLUE, "-", (-5.8, 0.26)), ("reverse", RED, DASHED, (-2.6, 0.6))):
    path = fit(target, start, way, key=jax.random.key(0))
    last = jax.tree.map(lambda leaf: leaf[-1], path)
    fits.plot(x, density(last), color=color, linestyle=dashes, linewidth=2)
    found = kl(target, last) if way == "forward" else kl(last, target)
    mean, std = float(last.mean[0]), float(jnp.exp(last.log_std[0]))
    print(f"{way}: normal({mean:.3f}, {std:.3f}), {float(found):.4f} nats")
    fits.text(*place, f"{way}\nN({mean:.2f}, {std:.2f}²)", color=color, fontsize=8.5)
fits.set_yticks([])
fits.grid(False)
label(fits, "Covers, or seeks", "x", "")

# What an estimate costs
means = np.geomspace(0.03, 3, 25)
rows = [estimator_moments(normal(m, 1), normal(0, 1)) for m in means]
for k, color, dashes in (("k1", BLUE, "-"), ("k2", RED, DASHED), ("k3", GREEN, DOTTED)):
    rms = [float(jnp.hypot(row[k].std, row[k].mean - m**2 / 2)) / (m**2 / 2) for row, m in zip(rows, means)]
    spread.plot(means**2 / 2, rms, color=color, linestyle=dashes, linewidth=2, label=k)
spread.plot(means**2 / 2, [abs(float(row["k2"].mean) / (m**2 / 2) - 1) for row, m in zip(rows, means)],
            color=RED, linewidth=0.9, label="bias of k2")  # fmt: skip
spread.set(xscale="log", yscale="log", ylim=(1e-3, 100))
spread.legend(frameon=False, fontsize=8.5)
label(spread, "Error of one sample", "D(P‖Q), nats", "RMS error / D")

# What the target must know
found = np.array([[left_out(seed, slip) for seed in range(SEEDS)] for slip in SLIPS])
for slip, row in zip(SLIPS, found):
    print(
        f"slip {slip}: median {np.median(row):.3g}, quartiles {np.quantile(row, 0.25):.3g} {np.quantile(row, 0.75):.3g}"
    )
world.fill_between(SLIPS, *np.quantile(found, [0.25, 0.75], axis=1), color=RED, alpha=0.16, linewidth=0)
world.plot(SLIPS, np.median(found, axis=1), "o-", color=RED, linewidth=2, markersize=4)
world.axhline(0, color=BLUE, linewidth=2)
world.text(0.5, 0.02, "with the dynamics: below 1e-12", color=BLUE, fontsize=8.5, ha="right", va="bottom")
label(world, "Dynamics left out of P", "chance that action 1 slips", "wrong part / ∇J_soft")
save(
    figure,
    "kl",
    f"fits: 400 Adam steps of 256 samples, key 0; moments by quadrature; random_mdp(0–{SEEDS - 1}), α = {ALPHA:g}",
)

# The same fits, moving
with TemporaryDirectory() as folder:
    subprocess.run([sys.executable, "-m", "policygrad", "kl", "--picture", folder], check=True)
    write_atomically(IMAGES / "kl.gif", (Path(folder) / "kl.gif").read_bytes())
