"""The intervals of a measurement against exact values: many data sets of one tabular world, at five signal-to-noise
ratios, one of them zero."""

from collections import Counter
from dataclasses import replace

import equinox as eqx
import pytest
from test_microscope import tabular

import policygrad as pg
from policygrad.envs.tabular import TabularMDP, random_mdp
from policygrad.measure import gather as g
from policygrad.measure import statistics as st
from policygrad.measure.exactly import measure_exactly
from policygrad.measure.microscope import Judge, companions
from policygrad.measure.rungs import make_rungs, reference_rung

TRAJECTORIES = 256
RUNGS = ["reinforce", "reinforce-togo", "gae:0.7"]
FIGURES = ("variance", "norm", "bias", "mse", "worth", "noise_scale", "snr")
CERTAIN = {("reinforce", "bias"), ("reinforce", "worth"), ("reinforce-togo", "bias")}
SNR = {0.0: 0.0, 0.2: 0.00689, 0.5: 0.0411, 1.0: 0.1435, 4.0: 0.682}
"""Of plain REINFORCE with batches of 8."""


def world(signal):
    """Every step pays 1, whatever is done, and ``signal`` times what a random world pays: without the latter ∇J = 0."""
    env = random_mdp(1, n_states=3, n_actions=2, horizon=3)
    return TabularMDP(env.initial, env.transition, 1 + signal * env.reward_value, env.reward_prob, horizon=3)


def data_sets(env, model, rungs, sets):
    """``sets`` independent samples of ``TRAJECTORIES``, each with its gradients one by one."""
    collector = pg.episode_collector(pg.autoreset(env, 3), TRAJECTORIES)
    play = eqx.filter_jit(lambda key: collector.collect(model, None, key)[1])
    asked = rungs | {r.name: r for r in companions(rungs)}
    asked["the true gradient"] = reference_rung(1.0, "discounted", True)
    options = {"trajectories": sets * TRAJECTORIES, "batch": TRAJECTORIES, "gamma": 1.0, "seed": 7}
    everything = g.gather(play, model, asked, **options)
    assert everything.size == 1
    for i in range(sets):
        mine = slice(i * TRAJECTORIES, (i + 1) * TRAJECTORIES)
        yield replace(everything, vectors={k: x[mine] for k, x in everything.vectors.items()}, batch=8)


def slow(sets, *values):
    return [pytest.param(x, sets, marks=pytest.mark.slow) for x in values]


@pytest.mark.parametrize(("signal", "sets"), [(0.0, 300), *slow(800, 0.2, 0.5, 1.0, 4.0)])
def test_intervals_hold_the_exact_values(signal, sets, monkeypatch):
    """300 or 800 data sets of 256 trajectories: 95 % intervals hold the truth in 92 to 98 % of them (one error: 1.3 or
    0.8 %). What is a number for certain is left out: a proven bias of 0, and what REINFORCE is worth."""
    monkeypatch.setattr(g, "GROUPS", sets * TRAJECTORIES)  # single gradients
    monkeypatch.setattr(Judge, "sizes", lambda *_: [])  # no curves
    env = world(signal)
    model = tabular(env)
    rungs = make_rungs(RUNGS, gamma=1.0, objective="discounted")
    exact = measure_exactly(env, model, rungs, gamma=1.0, declared="discounted", batch=8)
    assert exact.rungs["reinforce"].snr.value == pytest.approx(SNR[signal], rel=0.01, abs=1e-12)
    hits: Counter = Counter()
    truth = None
    for found in data_sets(env, model, rungs, sets):
        truth = truth or st.Truth.of(found.vectors["the true gradient"])
        judge = Judge(found, truth)
        plain = judge.errors(rungs["reinforce"])
        for name, rung in rungs.items():
            mine = judge.rung(rung, plain)
            for figure in FIGURES:
                interval, value = getattr(mine, figure), getattr(exact.rungs[name], figure).value
                hits[name, figure] += interval.low <= value <= interval.high
    shares = {key: count / sets for key, count in hits.items() if key not in CERTAIN}
    print(signal, shares)
    for (name, figure), share in shares.items():
        most = {"noise_scale": 1.0, "snr": 1.0, "bias": 0.99}.get(figure, 0.98)  # near 0 only a low end can miss
        assert 0.92 <= share <= most, (name, figure, share)
