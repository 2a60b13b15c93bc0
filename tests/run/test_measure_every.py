"""`measure_every`: the noise of the gradient along a run. It is right, changes nothing, costs nothing in between."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import policygrad as pg
from policygrad.learn.gradient import gradient_samples
from policygrad.learn.learner import noise_sums
from policygrad.run import api
from policygrad.run.program import noise
from policygrad.run.recipes import RecipeError, make_recipe
from policygrad.run.record import read_metrics

BEGUN = {"n_envs": 4, "n_steps": 3, "net": (4,), "eval_every": 0, "out": None}
TINY = {"tensorboard": False, **BEGUN}
KEYS = ("measure/snr", "measure/noise_scale", "measure/cosine")


def params(run):
    return [np.asarray(x) for x in jax.tree.leaves(run.state.learner.params)]


@pytest.mark.parametrize("seeds", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_nothing_that_is_learned_depends_on_it(seeds):
    options = {"total_timesteps": 480, "log_every": 120, "seeds": seeds, **TINY}
    plain, measured = pg.train("chain", "a2c", **options), pg.train("chain", "a2c", measure_every=4, **options)
    assert all((a == b).all() for a, b in zip(params(plain), params(measured), strict=True))
    assert not set(KEYS) & set(plain.history)
    assert np.isfinite(measured.history["measure/snr"]).all() and measured.history["measure/snr"].shape == (4, seeds)


def conditions(jaxpr):
    """Every `cond` of a program, with the shape of what decides."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "cond":
            yield equation.invars[0].aval.shape
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from conditions(inner)


def test_several_seeds_have_one_condition():
    """A condition of each seed's own would become a selection, and both branches would run at every update."""
    run = api.begin("chain", "a2c", total_timesteps=480, seeds=2, measure_every=4, **BEGUN)
    jaxpr = run.program.advance.trace(run.state, jnp.int32(12)).jaxpr.jaxpr
    assert () in list(conditions(jaxpr))


def test_sums_are_those_of_the_formula():
    run = api.begin("chain", "a2c", total_timesteps=480, **BEGUN)
    program, state = run.program, run.state
    model = program.learner.model(state.learner)
    _, trajectory, _ = program.collector.collect(model, state.collector, jax.random.key(1))
    batch = program.learner.weigh(state.learner, trajectory)
    samples = jax.tree.leaves(gradient_samples(model, batch.trajectory, batch.weights))
    g = np.concatenate([np.asarray(x).reshape(4, -1) for x in samples], axis=1).astype(float)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    u = np.mean([g[i] @ g[j] for i, j in pairs])
    d = np.mean([x @ x for x in g])
    cosine = np.mean([g[i] @ g[j] / np.linalg.norm(g[i]) / np.linalg.norm(g[j]) for i, j in pairs])
    found = {name: float(x) for name, x in noise_sums(model, batch).items()}
    assert found["measure/columns"] == 4 and found["measure/updates"] == 1
    np.testing.assert_allclose(found["measure/signal"], 4 * u, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found["measure/spread"], d - u, rtol=1e-4)
    np.testing.assert_allclose(found["measure/cosine"], cosine, rtol=1e-4, atol=1e-6)


def test_a_row_is_the_ratio_of_sums():
    sums = {"updates": 2.0, "columns": 16.0, "signal": 3.0, "spread": 6.0, "cosine": 0.5}
    row = noise({f"measure/{name}": np.float64(x) for name, x in sums.items()})
    assert row == {"measure/snr": 0.5, "measure/noise_scale": 16.0, "measure/cosine": 0.25}
    nothing = noise({f"measure/{name}": np.float64(x) for name, x in (sums | {"signal": -3.0}).items()})
    assert nothing["measure/snr"] == -0.5 and np.isnan(nothing["measure/noise_scale"])
    unseen = noise({f"measure/{name}": np.float64(0) for name in sums})
    assert all(np.isnan(x) for x in unseen.values())


def test_host_runs_log_it_too(tmp_path):
    options = {**TINY, "out": None, "path": tmp_path / "run", "total_timesteps": 96, "log_every": 48}
    run = pg.train("gym:CartPole-v1", "a2c", measure_every=2, **options)
    table = read_metrics(tmp_path / "run")
    assert np.isfinite(table["measure/snr"]).all() and len(table["measure/snr"]) == 2
    plain = pg.train("gym:CartPole-v1", "a2c", **{**options, "path": None})
    assert all((a == b).all() for a, b in zip(params(plain), params(run), strict=True))


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(RecipeError, match="workers=0"):
        make_recipe("a3c", "CartPole-v1", measure_every=8)
    with pytest.raises(RecipeError, match="n_envs"):
        make_recipe("a2c", "CartPole-v1", measure_every=8, n_envs=1)
