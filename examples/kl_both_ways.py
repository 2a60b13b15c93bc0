"""A Gaussian policy for a target with two peaks: fitted forward it covers both, fitted in reverse it seeks one.

Then the three estimators of a divergence, beside the exact number: what each is off by on average, and how far one
sample is spread.
"""

import jax
import jax.numpy as jnp

import policygrad as pg
from policygrad.learn.divergence import estimator_moments, fit, samples
from policygrad.models import Mixture


def normal(mean, std):
    return pg.DiagGaussian(jnp.array([mean]), jnp.log(jnp.array([std])))


def main(steps=400, n=10_000, seed=0):
    peaks = Mixture((normal(-2.0, 0.6), normal(2.0, 0.6)), jnp.log(jnp.array([0.3, 0.7])))
    fitted = {}
    for direction in ("forward", "reverse"):
        path = fit(peaks, normal(0.5, 1.5), direction, key=jax.random.key(seed), steps=steps)
        fitted[direction] = model = jax.tree.map(lambda leaf: leaf[-1], path)
        mean, std = float(model.mean[0]), float(jnp.exp(model.log_std[0]))
        print(f"{direction}: N({mean:.2f}, {std:.2f}²), D(peaks‖model) = {pg.kl(peaks, model):.3f}, "
              f"D(model‖peaks) = {pg.kl(model, peaks):.3f}")  # fmt: skip

    old, new = normal(0.0, 1.0), normal(0.1, 1.0)
    drawn, exact = samples(new, old, n, jax.random.key(seed)), estimator_moments(new, old)
    print(f"\nD(new‖old) = {pg.kl(new, old):.5f}; {n:,} samples:")
    for name, (mean, std) in exact.items():
        print(f"  {name}: {drawn[name].mean():.5f}, bias {mean - pg.kl(new, old):+.5f}, spread of one sample {std:.5f}")
    return fitted


if __name__ == "__main__":
    main()
