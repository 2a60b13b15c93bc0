"""The microscope against the oracle: what is sampled must agree with what is enumerated, and with closed forms."""

import dataclasses
import json
import math
import shutil
import subprocess

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import policygrad as pg
from policygrad.envs.tabular import random_mdp, short_corridor
from policygrad.learn.gradient import gradient_samples
from policygrad.learn.groups import gradient_groups
from policygrad.measure import gather as g
from policygrad.measure import statistics as st
from policygrad.measure.exactly import measure_exactly
from policygrad.measure.microscope import effective, measure_gradients
from policygrad.measure.rungs import make_rungs
from policygrad.measure.words import sentences
from policygrad.models.actor_critic import make_model

GAMMA = 0.8


def slow(*values):
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def tabular(env, seed=0, critic=True):
    model = make_model(
        env.observation_space, env.action_space, policy="tabular", critic=critic, key=jax.random.key(seed)
    )
    noise = lambda x, k: x + 0.7 * jax.random.normal(jax.random.key(k), x.shape)  # noqa: E731
    leaves, tree = jax.tree.flatten(eqx.filter(model, eqx.is_inexact_array))
    moved = jax.tree.unflatten(tree, [noise(x, seed + k) for k, x in enumerate(leaves)])
    return eqx.combine(moved, model)


@pytest.fixture(scope="module")
def world():
    env = random_mdp(1, n_states=3, n_actions=2, horizon=3)
    model = tabular(env)
    stream = pg.autoreset(env, 3)
    collectors = {n: pg.episode_collector(stream, n) for n in (2, 16)}
    play = {n: eqx.filter_jit(lambda key, c=c: c.collect(model, None, key)[1]) for n, c in collectors.items()}
    return env, model, play


def covered(found, truth, names):
    """The share of the figures whose interval holds the exact value."""
    hits = []
    for name in names:
        mine, exact = found.rungs[name], truth.rungs[name]
        for field in ("variance", "norm", "bias", "mse"):
            interval, value = getattr(mine, field), getattr(exact, field).value
            slack = 2e-4 * max(1.0, abs(value))  # float32, and intervals of no width where there is no noise
            hits.append(interval.low - slack <= value <= interval.high + slack)
        for field in ("worth", "noise_scale", "snr"):
            interval, value = getattr(mine, field), getattr(exact, field).value
            hits.append(interval.low * 0.999 <= value <= interval.high * 1.001)
    return np.mean(hits), len(hits)


@pytest.mark.parametrize("objective", ["discounted", *slow("undiscounted", "approximation")])
def test_sampling_reproduces_the_exact_values(world, objective):
    """4,096 trajectories of a random MDP in batches of 16: seven figures a rung, each with its 95 % interval."""
    env, model, play = world
    names = ["reinforce", "reinforce-togo", "reinforce-value", "actor-critic", "n-step:2", "gae:0.7", "lambda-return"]
    rungs = make_rungs([*names, "mixture", "reinforce-total-mean"], gamma=GAMMA, objective=objective)
    options = {"gamma": GAMMA, "batch": 16}
    found = measure_gradients(
        play[16], model, rungs, objective=objective, trajectories=4096, reference_trajectories=256, seed=3, **options
    )
    truth = measure_exactly(env, model, rungs, declared=objective, **options)
    share, n = covered(found, truth, rungs)
    assert not truth.refused and n == 63
    assert share >= 0.85, (share, n)
    assert found.rungs["reinforce-togo"].unbiased and not found.rungs["gae:0.7"].unbiased
    assert found.rungs["reinforce"].unbiased == (objective != "approximation")
    assert found.rungs["reinforce"].worth[:2] == pytest.approx((1, 1)) and truth.rungs["reinforce"].worth.value == 1
    assert truth.rungs["reinforce-togo"].bias.value == 0 < truth.rungs["gae:0.7"].bias.value
    for name in ("reinforce-value", "actor-critic", "n-step:2", "gae:0.7"):
        mine, exact = found.rungs[name].baseline, truth.rungs[name].baseline
        assert mine.variance == pytest.approx(exact.variance, rel=0.15)
        assert abs(mine.covariance - exact.covariance) < 5 * mine.gain.error + 0.15 * exact.variance


@pytest.mark.slow
def test_rungs_that_couple_a_batch_agree_with_tuples(world):
    """Batches of two, every pair of trajectories enumerated."""
    env, _, _ = world
    env = random_mdp(4, n_states=2, n_actions=2, n_rewards=1, horizon=2)
    model = tabular(env, 5)
    collector = pg.episode_collector(pg.autoreset(env, 2), 2)
    play = eqx.filter_jit(lambda key: collector.collect(model, None, key)[1])
    names = ["reinforce-total-mean", "reinforce-mean", "mean-in-sample", "per-time", "reinforce-optimal",
             "optimal-in-sample", "optimal-per-time"]  # fmt: skip
    rungs = make_rungs(names, gamma=GAMMA, objective="discounted")
    found = measure_gradients(
        play, model, rungs, gamma=GAMMA, objective="discounted", trajectories=2048, reference_trajectories=64, batch=2
    )
    truth = measure_exactly(env, model, rungs, gamma=GAMMA, declared="discounted", batch=2)
    share, n = covered(found, truth, rungs)
    assert not truth.refused and share >= 0.85, (share, n)
    verdicts = {name: (found.rungs[name].baseline, truth.rungs[name].baseline) for name in names}
    for name, (mine, exact) in verdicts.items():
        assert mine.verdict in ("cannot be told", exact.verdict), name
        assert mine.gain.value == pytest.approx(mine.covariance - mine.variance, rel=1e-6, abs=1e-9), "2·Cov − Var"


def test_importance_weights_of_another_policy(world):
    env, model, _ = world
    near = lambda x, y: x + 0.25 * (y - x) if eqx.is_inexact_array(x) else x  # noqa: E731
    other = jax.tree.map(near, model, tabular(env, 9))  # so near that the weights have no heavy tail
    collect = pg.episode_collector(pg.autoreset(env, 3), 16)
    acting, own = (eqx.filter_jit(lambda key, m=m: collect.collect(m, None, key)[1]) for m in (other, model))
    rungs = make_rungs(["importance", "per-decision"], gamma=GAMMA, off_policy=True)
    options = {"gamma": GAMMA, "batch": 16}
    found = measure_gradients(
        acting, model, rungs, objective="discounted", trajectories=4096, collect_reference=own, **options
    )
    truth = measure_exactly(env, model, rungs, declared="discounted", behaviour=other, **options)
    for name in rungs:
        mine, exact = found.rungs[name], truth.rungs[name]
        assert mine.variance.low <= exact.variance.value <= mine.variance.high
        assert mine.effective.low == 0 and 0.3 < mine.effective.value < mine.effective.high < 0.99
    for name in ("gae", "reinforce"):
        with pytest.raises(ValueError, match=f"'{name}' has no importance weights"):
            make_rungs([name], gamma=GAMMA, off_policy=True)
    own = make_rungs(
        {"mine": pg.Psi("reward_to_go", correction="truncated", gamma=GAMMA)}, gamma=GAMMA, off_policy=True
    )
    assert next(iter(own)) == "importance", "unweighted REINFORCE is no yardstick on another policy's data"


def test_the_bias_of_other_policies_rungs_is_measured_on_the_same_trajectories(world):
    """Weights that hardly differ from one: the self-normalised rung is worth as much as plain importance weights."""
    env, model, _ = world
    near = lambda x, y: x + 0.02 * (y - x) if eqx.is_inexact_array(x) else x  # noqa: E731
    other = jax.tree.map(near, model, tabular(env, 9))
    collect = pg.episode_collector(pg.autoreset(env, 3), 16)
    acting, own = (eqx.filter_jit(lambda key, m=m: collect.collect(m, None, key)[1]) for m in (other, model))
    found = measure_gradients(
        acting, model, make_rungs(["importance", "self-normalized"], gamma=GAMMA, off_policy=True), gamma=GAMMA,
        objective="discounted", trajectories=1024, reference_trajectories=64, batch=16, collect_reference=own,
    )  # fmt: skip
    assert found.rungs["self-normalized"].worth.value == pytest.approx(1, abs=0.05)
    assert found.rungs["self-normalized"].bias.high < 0.01 * found.true_norm.value


@pytest.mark.parametrize("spread", [0.5, *slow(0.25, 1.0, 2.0)])
def test_what_importance_weights_leave_at_most(spread):
    """300 samples of 256 log-normal weights: at least 95 % of the intervals hold the true share, exp(−spread²)."""
    rng = np.random.default_rng(0)
    found = [effective(spread * rng.normal(size=256)) for _ in range(300)]
    assert np.mean([e.low <= math.exp(-(spread**2)) <= e.high for e in found]) >= 0.95
    assert np.mean([e.high for e in found]) < 1, "and they say something"


def test_groups_are_means_of_single_gradients(world):
    _, model, play = world
    trajectory = play[16](jax.random.key(0))
    weights = jax.random.normal(jax.random.key(1), (2, *trajectory.mask.shape))
    groups = gradient_groups(model, trajectory, weights, 4)
    for k in range(2):
        one_by_one = gradient_samples(model, trajectory, weights[k])
        flat = np.concatenate([np.reshape(x, (16, -1)) for x in jax.tree.leaves(one_by_one)], axis=1)
        assert np.allclose(groups[k], flat.reshape(4, 4, -1).mean(axis=1), atol=1e-6)


def test_windows_are_what_a_collector_of_windows_learns_from(world):
    """The weights of a rung in windows of two steps equal those of the trajectory cut in two."""
    _, model, play = world
    trajectory = play[16](jax.random.key(2))
    psi = pg.Psi("lambda_return", "value", lam=0.9, gamma=GAMMA)
    whole = g.weigh(make_rungs({"own": psi}, gamma=GAMMA)["own"]._replace(window=2), model, trajectory, None)
    cut = jax.tree.map(lambda x: x[:2], trajectory._replace(carry=None, cut_obs=None))
    first = cut._replace(carry=None, cut_obs=trajectory.obs[2][None])
    assert np.allclose(whole[:2], psi(pg.steps_from(model, first, psi)), atol=1e-6)


# Closed forms


class Bandit(pg.Env):
    """One step, paid −a²."""

    observation_space, action_space, time_limit = spaces.Discrete(1), spaces.Box(-np.inf, np.inf, (1,)), 1

    def draw(self, key, shape):
        return jnp.zeros(shape)

    def reset(self, noise):
        return jnp.zeros(()), jnp.zeros((), jnp.int32)

    def step(self, noise, state, action):
        return state, jnp.zeros((), jnp.int32), -(action[0] ** 2), jnp.ones((), bool)


class Mean(eqx.Module):
    """π = N(μ, s²) with μ alone to learn."""

    mean: jax.Array
    log_std: float = eqx.field(static=True)

    def initial(self):
        return None

    def __call__(self, input, carry):
        distribution = pg.DiagGaussian(self.mean, jnp.full(1, self.log_std))
        return pg.Output(distribution, None, jnp.zeros(())), carry


def test_the_gaussian_bandit_and_its_two_baselines():
    """Reward −a² under N(μ, s²): V = −(s² + μ²) and b* = −(3s² + μ²); their variances differ by exactly 4s²."""
    mu, s = 0.5, 0.6
    model = Mean(jnp.full(1, mu), math.log(s))
    v, best = -(s**2 + mu**2), -(3 * s**2 + mu**2)
    rungs = {name: pg.Psi("total_return", "constant", b=b, gamma=1.0) for name, b in (("V", v), ("optimal", best))}
    report = pg.measure(
        Bandit(), model, rungs=rungs, gamma=1.0, trajectories=65_536, reference=4096, batch=1024, seed=1
    ).measurement
    variances = {name: report.rungs[name].variance.value * 1024 for name in rungs}
    gain = variances["V"] - variances["optimal"]
    assert gain == pytest.approx(4 * s**2, rel=0.15)
    assert report.rungs["V"].norm.low <= 4 * mu**2 <= report.rungs["V"].norm.high, "∇J = −2μ"
    assert report.rungs["optimal"].baseline.verdict == "helps"


def two_arms(p):
    """Softmax over two arms paid 1 and 0; the first is pulled with probability p."""
    env = pg.TabularMDP([1.0, 0.0], np.array([[[0, 1.0], [0, 1.0]], [[0, 1.0], [0, 1.0]]]),
                        np.array([[[1.0, 1.0], [0.0, 0.0]]] * 2), terminal=[False, True], time_limit=1)  # fmt: skip
    model = make_model(env.observation_space, env.action_space, policy="tabular", critic=False, key=jax.random.key(0))
    logits = jnp.zeros((2, 2)).at[0].set(jnp.array([math.log(p / (1 - p)), 0.0]))
    return env, eqx.tree_at(lambda m: m.actor.head.last.rows, model, logits)


def test_a_two_armed_bandit_has_a_baseline_without_any_variance():
    """b* = 1 − p pulls the noise out entirely; the mean reward p as a baseline hurts where p is large."""
    p = 0.9
    env, model = two_arms(p)
    constant = lambda b: pg.Psi("total_return", "constant", b=b, gamma=1.0)  # noqa: E731
    report = pg.measure(env, model, rungs={"b*": constant(1 - p), "mean": constant(p)}, gamma=1.0, exact=True)
    rungs = report.measurement.rungs
    assert rungs["b*"].variance.value < 1e-15 < rungs["reinforce"].variance.value
    assert rungs["mean"].baseline.verdict == "hurts" and rungs["b*"].baseline.verdict == "helps"
    assert rungs["mean"].worth.value < 1
    for name, b in (("b*", 1 - p), ("mean", p)):  # x = R·∇log π, y = b·∇log π; ∇log π = ±(1 − p) with p, ±p otherwise
        test, fisher = rungs[name].baseline, 2 * p * (1 - p)
        assert test.variance == pytest.approx(b**2 * fisher / 64), "E[y] = 0"
        assert test.covariance == pytest.approx(2 * b * 2 * p * (1 - p) ** 2 / 64)
    assert any("hurts" in text for text in report.sentences())


def test_dropping_the_discount_can_turn_the_gradient_round():
    """Two states that look alike, paid +1 and −1.5 for the same action one after the other, γ = 0.5: ∇J points one way,
    the γ-approximation the other. After Nota & Thomas (2020), "Is the policy gradient a gradient?"."""
    transition = np.zeros((3, 2, 3))
    transition[0, :, 1] = transition[1, :, 2] = transition[2, :, 2] = 1
    reward = np.zeros((3, 2, 3))
    reward[0, 1], reward[1, 1] = 1.0, -1.5
    env = pg.TabularMDP([1.0, 0, 0], transition, reward, terminal=[False, False, True], observation=[0, 0, 1])
    model = make_model(env.observation_space, env.action_space, policy="tabular", critic=False, key=jax.random.key(0))
    report = pg.measure(env, model, gamma=0.5, exact=True, rungs=["reinforce-togo"])
    assert report.measurement.dropped.cosine.value == pytest.approx(-1.0)
    assert report.measurement.dropped.length == pytest.approx(2.0)  # (1 − 1.5)/(1 − 0.75)
    assert any("cosine" in text and "-1.00" in text for text in report.sentences())


def test_the_short_corridor_needs_no_time_limit_when_measured_exactly():
    env = short_corridor()
    model = make_model(env.observation_space, env.action_space, policy="tabular", critic=False, key=jax.random.key(0))
    found = pg.measure(env, model, gamma=1.0, exact=True, rungs=["reinforce-togo"]).measurement
    assert found.rungs["reinforce-togo"].worth.value > 1
    assert found.rungs["reinforce-togo"].norm.value == pytest.approx(found.true_norm.value, rel=1e-9)
    with pytest.raises(ValueError, match="has no time limit, so an episode may never end: set max_episode_steps, or"):
        pg.measure(env, model, gamma=1.0)


# What is refused, and what is written


def test_what_cannot_be_measured_is_refused_in_a_sentence(world):
    env, _, play = world
    bare = tabular(env, critic=False)
    for arguments, words in (
        ({"rungs": ["gae"]}, "the rung 'gae' needs a critic and this policy has none"),
        ({"rungs": ["gea"]}, "unknown rung 'gea': did you mean 'gae'"),
        ({"rungs": ["gae:1.5"]}, r"lam must be in \[0, 1\]"),
        ({"rungs": ["reinforce:2"]}, "has no number to set"),
        ({"rungs": ["n-step:0.5"]}, "must be a whole number of steps"),
        ({"trajectories": 100}, "fewer than four batches"),
        ({"trajectories": 1}, "trajectories must be a whole number of at least 4"),
        ({"objective": "average"}, "unknown objective 'average'"),
        ({"gamma": 1.5}, r"gamma must be in \[0, 1\]"),
        ({"max_episode_steps": -3}, "max_episode_steps must be a whole number of at least 1, not -3"),
        ({"reference": 0}, "reference must be a whole number of at least 256, not 0"),
        ({"parts": 3}, "parts must be 0 or at least 16 states"),
        ({"batch": 1}, "couples the trajectories of a batch: give a batch of at least 2"),
    ):
        with pytest.raises(ValueError, match=words):
            pg.measure(env, bare, **arguments)
    with pytest.raises(ValueError, match="the policy's observation space"):
        pg.measure("CartPole-v1", pg.Policy(bare, env.observation_space, env.action_space))
    with pytest.raises(ValueError, match="only those can be measured exactly"):
        pg.measure("probe:action", bare, exact=True, max_episode_steps=1)
    zero = jax.tree.map(lambda x: x, lambda key: play[16](key)._replace(reward=jnp.zeros((3, 16))))
    with pytest.raises(ValueError, match="every gradient is exactly zero"):
        measure_gradients(zero, bare, make_rungs(["reinforce-togo"], gamma=1.0), gamma=1.0, objective="discounted",
                          trajectories=64, batch=16, has_critic=False)  # fmt: skip


def test_a_report_is_one_page_and_the_same_numbers_as_json(world, tmp_path):
    env, model, _ = world
    report = pg.measure(env, model, gamma=GAMMA, trajectories=256, batch=16, rungs=["reinforce-mean", "gae"])
    page = report.save(tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 3 and "<script" not in text and "src=" not in text
    assert "http" not in text.replace("http://www.w3.org", ""), "no network"
    saved = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(saved["measurement"]["rungs"]) == {"reinforce", "reinforce-mean", "gae"}
    assert saved["measurement"]["rungs"]["gae"]["variance"]["value"] == report.measurement.rungs["gae"].variance.value
    assert 1 <= len(report.sentences()) <= 6 and "gae" in str(report)
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is not None:
        shown = in_browser(browser, page, tmp_path)
        assert shown.count("</svg>") == 3 and "<td>reinforce-mean</td>" in shown


def in_browser(browser, page, tmp_path):
    """The page as a headless browser without a network has laid it out."""
    offline = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--proxy-server=127.0.0.1:9",
        f"--user-data-dir={tmp_path}",
    ]
    return subprocess.run(
        [browser, *offline, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60
    ).stdout


@pytest.mark.slow
def test_a_run_of_plain_reinforce_is_worth_itself():
    """The run's own Ψ is the plain one: unbiased, and worth exactly 1."""
    run = pg.train("chain", "reinforce", total_timesteps=2000, max_episode_steps=8, out=None, eval_every=0, net=(4,))
    found = pg.measure(run, trajectories=128, batch=16, rungs=["reinforce"]).measurement
    assert found.rungs["as trained"].unbiased and found.rungs["as trained"].worth.value == pytest.approx(1)


def test_rewards_that_are_all_zero_are_refused_with_a_critic_too(world):
    _, model, play = world
    zero = lambda key: play[16](key)._replace(reward=jnp.zeros((3, 16)))  # noqa: E731
    with pytest.raises(ValueError, match="every gradient is exactly zero"):
        measure_gradients(zero, model, make_rungs(["gae"], gamma=GAMMA), gamma=GAMMA, objective="discounted",
                          trajectories=64, batch=16)  # fmt: skip


def test_lambda_one_has_no_bias_but_that_of_rounding(world):
    env, model, _ = world
    report = pg.measure(env, model, gamma=GAMMA, exact=True, rungs=["gae:1"], batch=4)
    assert report.measurement.rungs["gae:1"].bias.value == 0
    assert not any("biased" in text for text in report.sentences())


def test_a_projection_keeps_inner_products(monkeypatch, world):
    """Vectors of 1,024 numbers instead of 20,000: norms to √(2/1024) = 4 %."""
    x = jax.random.normal(jax.random.key(0), (6, 20_000)) + 0.3
    y = g.Projection.make(20_000, 1024, seed=1)(x)
    assert y.shape == (6, 1024)
    assert np.allclose(np.sum(y**2, axis=1), np.sum(x**2, axis=1), rtol=0.2)
    assert float(y[0] @ y[1]) == pytest.approx(float(x[0] @ x[1]), rel=0.5)
    monkeypatch.setattr(g, "ENTRIES", 1)
    _, model, play = world
    rungs = make_rungs(["reinforce"], gamma=GAMMA)
    found = g.gather(play[16], model, rungs, trajectories=64, batch=16, gamma=GAMMA)
    assert found.projected is None, "there is nothing to gain below 1,024 parameters"


def test_batches_that_are_worked_on_at_once_change_nothing(world):
    _, model, play = world
    rungs, told = make_rungs(["reinforce", "gae"], gamma=GAMMA), []
    options = {"trajectories": 16 * 9, "batch": 16, "gamma": GAMMA, "seed": 3}
    alone = g.gather(play[16], model, rungs, **options)
    several = g.gather(play[16], model, rungs, **options, threads=3, tell=told.append)
    assert told == [16 * k for k in range(1, 10)]
    jax.tree.map(np.testing.assert_array_equal, several.vectors, alone.vectors)
    jax.tree.map(np.testing.assert_array_equal, several.episodes, alone.episodes)


def test_work_comes_in_order_and_ends_where_one_fails():
    begun = []

    def work(i):
        begun.append(i)
        if i == 5:
            raise ValueError("five")
        return i

    done = []
    with pytest.raises(ValueError, match="five"):
        for x in g.in_order(work, range(1000), 3):
            done.append(x)
    assert done == [0, 1, 2, 3, 4] and max(begun) <= 5 + 3


@pytest.mark.slow
def test_projected_samples_are_compared_in_the_same_numbers(monkeypatch):
    """The true gradient is another sample: the cosine to it is that of the vectors before the projection."""
    env = pg.make("CartPole-v1")
    model = make_model(env.observation_space, env.action_space, key=jax.random.key(0), net=(32, 32))
    options = {"rungs": ["reinforce-togo"], "trajectories": 512, "batch": 16, "max_episode_steps": 20, "gamma": 1.0}
    whole = pg.measure(env, model, **options).measurement
    monkeypatch.setattr(g, "ENTRIES", 1)
    short = pg.measure(env, model, **options).measurement
    assert whole.projected is None and short.projected == 1024
    one, other = (m.rungs["reinforce-togo"].cosine_true.value for m in (whole, short))
    assert one > 0.5 and other == pytest.approx(one, abs=0.1)


def test_off_policy_bias_is_that_of_the_true_gradient(world):
    """Truncated weights of a far policy: the bias is taken to the policy's own episodes, so that it cannot be less than
    the difference of the two lengths; return and length are the policy's own too."""
    env, model, _ = world
    other = tabular(env, seed=5)
    options = {"rungs": ["truncated"], "trajectories": 512, "batch": 16, "max_episode_steps": 3, "gamma": GAMMA}
    m = pg.measure(env, model, behaviour=other, **options).measurement
    exact = pg.measure(env, model, behaviour=other, exact=True, rungs=["truncated"], batch=16, gamma=GAMMA).measurement
    rung, true = m.rungs["truncated"], exact.rungs["truncated"].bias.value
    assert rung.bias.low <= true <= rung.bias.high and rung.bias.error < true
    own = pg.measure(env, model, rungs=["reinforce"], trajectories=512, batch=16, max_episode_steps=3, gamma=GAMMA)
    assert m.ret.low <= own.measurement.ret.high and own.measurement.ret.low <= m.ret.high


# What the report says of what it found


def test_a_biased_rung_pays_only_where_it_beats_every_unbiased_one():
    """γ < 1 under the undiscounted objective: the run's own Ψ has little bias, and reward-to-go is worth more still."""
    env = short_corridor()
    model = make_model(env.observation_space, env.action_space, policy="tabular", critic=False, key=jax.random.key(0))
    own = pg.Psi("total_return", gamma=0.99)
    options = {"gamma": 0.99, "objective": "undiscounted", "exact": True}
    found = pg.measure(env, model, rungs=["reinforce-togo"], **options).measurement
    biased = pg.measure(env, model, rungs={"own": own}, **options).measurement.rungs["own"]
    assert not biased.unbiased and 0 < biased.bias.value < 0.5 * biased.mse.value
    alone, beaten = (
        sentences(dataclasses.replace(found, rungs=rungs))
        for rungs in (
            {"reinforce": found.rungs["reinforce"], "own": biased},
            {**found.rungs, "own": biased},
        )
    )
    assert 1 < biased.worth.value < found.rungs["reinforce-togo"].worth.value
    assert any(text.endswith("of its error at this batch: it pays.") for text in alone)
    assert any(text.endswith("and reinforce-togo, which is unbiased, is worth more.") for text in beaten)


def test_rungs_that_do_not_differ_are_not_ranked():
    """One step: reward-to-go is the total return, and two equal baselines are one."""
    env, model = two_arms(0.9)
    constant = pg.Psi("total_return", "constant", b=0.05, gamma=1.0)
    togo = pg.Psi("reward_to_go", gamma=1.0)
    found = lambda **rungs: pg.measure(env, model, rungs=rungs, gamma=1.0, exact=True).sentences()[0]  # noqa: E731
    assert found(best=constant, togo=togo).endswith("the most of all.")
    assert found(togo=togo).startswith("No rung is worth more than reinforce")
    assert found(one=constant, two=constant).endswith("the most of all; two is worth the same.")


def test_a_table_without_cosines_says_why(world, monkeypatch, tmp_path):
    env, model, _ = world
    options = {"gamma": GAMMA, "rungs": ["reinforce-togo"]}
    assert "no exact method" in pg.measure(env, model, exact=True, **options).table()
    sampled = {"trajectories": 256, "reference": 256, "batch": 4, **options}
    assert "no cosines" not in pg.measure(env, model, **sampled).table()
    monkeypatch.setattr(g, "GROUPS", 16)  # 64 batches are more than twice that
    report = pg.measure(env, model, **sampled)
    assert "give a larger --batch, or fewer trajectories" in report.table()
    assert "give a larger --batch, or fewer trajectories" in report.save(tmp_path).read_text(encoding="utf-8")


def test_what_cannot_be_told_says_how_many_trajectories_would_tell(world):
    """A world that pays the same for everything: no rung has a gradient, and only more data could say so."""
    env, model, _ = world
    same = dataclasses.replace(env, reward_value=np.ones_like(env.reward_value))
    options = {"gamma": 1.0, "trajectories": 256, "reference": 256, "batch": 8}
    report = pg.measure(same, model, rungs=["reinforce-togo", "reinforce-value"], seed=1, **options)
    m, told = report.measurement, report.measurement.undecided()
    assert "norm" in told["g"] and "bias" not in told["reinforce-togo"], "proven"
    assert report.to_dict()["undecided"].keys() == told.keys()
    for name, figures in told.items():
        for what, count in figures.items():
            estimate = (
                {"norm": m.true_norm}
                if name == "g"
                else {
                    "norm": m.rungs[name].norm,
                    "bias": m.rungs[name].bias,
                    "cosine_true": m.rungs[name].cosine_true,
                    "baseline": m.rungs[name].baseline and m.rungs[name].baseline.gain,
                }
            )
            assert not estimate[what].told_from_zero and count > 256
    assert any("Every episode returned 3: " in text for text in report.sentences())
    assert "(more than 256 would)" in report.table()
    clear = pg.measure(env, model, gamma=GAMMA, exact=True, rungs=["reinforce-togo"])
    assert clear.measurement.undecided() == {}


def test_a_gradient_that_points_away_is_said_to(world):
    env, model, _ = world
    report = pg.measure(env, model, gamma=GAMMA, trajectories=256, reference=256, batch=8, rungs=["reinforce-togo"])
    away = st.Estimate(-0.49, 0.1, -0.63, -0.32)
    rungs = {name: dataclasses.replace(rung, cosine_true=away) for name, rung in report.measurement.rungs.items()}
    told = sentences(dataclasses.replace(report.measurement, rungs=rungs))
    assert any("-0.49 (-0.63 to -0.32): it points away from it." in text for text in told)
    unclear = {
        name: dataclasses.replace(rung, cosine_true=st.Estimate(0.05, 0.1, -0.15, 0.25)) for name, rung in rungs.items()
    }
    table = dataclasses.replace(report, measurement=dataclasses.replace(report.measurement, rungs=unclear)).table()
    assert "0.05 (-0.15 to 0.25) (≈ 4,100 would, and as many for g)" in table


@pytest.mark.slow
def test_relative_biases_need_a_gradient_that_is_known(world):
    env, model, _ = world
    m = pg.measure(env, model, gamma=GAMMA, trajectories=2048, batch=2, rungs=["mean-in-sample"]).measurement
    assert any("bias² is about" in text for text in sentences(m))
    unknown = dataclasses.replace(m, true_norm=st.Estimate(0.1, 1.0, 0.0, 2.0))
    told = sentences(unknown)
    assert any("relative biases are unknown" in text for text in told) and not any("‖g‖²" in text for text in told)
    same = dataclasses.replace(unknown, ret=st.Estimate(3.0, 0.0, 3.0, 3.0))
    assert any("Every episode returned 3: " in text for text in sentences(same))


@pytest.mark.slow
def test_more_trajectories_do_tell(world):
    """A figure that is not told from zero, and is with four times as many trajectories as give it an even chance."""
    env, model, _ = world
    rung, options = "reinforce-togo", {"gamma": GAMMA, "reference": 256, "batch": 2, "seed": 3}
    few = pg.measure(env, model, rungs=[rung], trajectories=16, **options).measurement
    count = few.undecided()[rung]["norm"]
    assert 16 <= count < 4096
    many = pg.measure(env, model, rungs=[rung], trajectories=4 * int(count), **options).measurement
    assert "norm" not in many.undecided().get(rung, {})


def test_a_report_names_the_seed_that_was_measured(world):
    env, model, _ = world
    report = pg.measure(env, model, gamma=GAMMA, exact=True, rungs=["reinforce"])
    assert not any("seed" in line for line in report.heading())
    several, one = (dataclasses.replace(report, recipe={"seed": 5, "seeds": n}) for n in (3, 1))
    assert "the policy of seed 5 of 3 seeds" in several.heading()
    assert not any("seed" in line for line in one.heading())
