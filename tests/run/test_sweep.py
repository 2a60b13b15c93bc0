"""The γ × λ map: every cell is the run that it says it is, and its gradient is measured as the oracle computes it."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import policygrad as pg
from policygrad.envs.tabular import random_mdp
from policygrad.measure.exact import gradient, ladder_moments, policy_evaluation, policy_probabilities
from policygrad.measure.surface import error_at_best_scale, fit_critics, measure_surface
from policygrad.models import make_model
from policygrad.run import sweep as module
from policygrad.run.recipes import RecipeError
from policygrad.run.sweep import json_ready, part_size, plan

TINY = {"total_timesteps": 640, "n_envs": 4, "n_steps": 8, "net": 8, "learning_rate": 0.05}
TINY |= {"eval_episodes": 4, "max_episode_steps": 20}
GRID = {"gamma": [0.5, 0.9], "gae_lambda": [1.0, 0.0, 0.9], "seeds": 2, "trajectories": 0}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A map with its gradients, in a folder."""
    root = tmp_path_factory.mktemp("maps")
    return pg.sweep("chain", **TINY, **GRID | {"trajectories": 64}, batch=8, out=root)


# Training


def test_every_cell_is_the_run_that_it_says_it_is(found):
    options = TINY | {"gamma": 0.9, "gae_lambda": 0.0, "seed": 1, "log_every": 32}
    alone = pg.train("chain", "a2c-gae", out=None, **options)
    assert found.gammas == (0.5, 0.9) and found.lams == (0.0, 0.9, 1.0)  # in order, whatever the user's was
    np.testing.assert_allclose(found.returns[1, 0, 1], alone.history["eval/mean_reward"][-1, 0], rtol=1e-4)
    np.testing.assert_allclose(found.curves[:, 1, 0, 1], alone.history["rollout/ep_rew_mean"][:, 0], rtol=1e-4)


def test_cells_differ_and_seeds_begin_alike(found):
    first = found.curves[0]
    assert np.array_equal(first[0, 0], first[1, 2], equal_nan=True)  # before the first update nothing is different
    assert len({cell.tobytes() for cell in np.moveaxis(found.curves, 0, -1).reshape(6, -1)}) > 1


@pytest.mark.slow
def test_parts_that_take_turns_change_nothing(found, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 4 * 32)
    parted = pg.sweep("chain", **TINY, **GRID, out=None)
    np.testing.assert_allclose(parted.returns, found.returns, rtol=1e-4)
    np.testing.assert_allclose(parted.curves, found.curves, rtol=1e-4)


def test_parts_are_equal_and_fit():
    recipe, *_ = plan("chain", "a2c-gae", [0.9], [1], 1, n_envs=64, n_steps=128)
    assert part_size(recipe, 12) == 4 and part_size(recipe, 7) == 1


def test_one_value_and_one_seed_will_do(tmp_path):
    one = pg.sweep("chain", **TINY, gamma=0.9, gae_lambda=1, seeds=1, trajectories=0, out=None)
    assert one.returns.shape == (1, 1, 1) and np.isnan(one.interval[0]).all()
    assert one.plot(tmp_path / "one.svg").read_text().startswith("<?xml")
    assert "γ = 0.9" in one.table()


# What is kept


def test_results_are_plain_and_whole(found):
    stored = json.loads((found.path / "results.json").read_text())
    assert stored == json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert len(stored["cells"]) == 6 and len(stored["gradient"]["cells"]) == 6 and stored["runs"] == 12
    cell = next(c for c in stored["cells"] if (c["gamma"], c["gae_lambda"]) == (0.9, 0.9))
    assert cell["mean"] == pytest.approx(np.mean(cell["curve"])) and cell["low"] <= cell["mean"] <= cell["high"]
    assert {path.name for path in found.path.iterdir()} == {"results.json", "map.png"}


def test_training_is_not_lost_when_measuring_ends_early(tmp_path, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "measure_surface", stop)
    with pytest.raises(KeyboardInterrupt):
        pg.sweep("chain", **TINY, **GRID | {"trajectories": 64}, out=tmp_path)
    stored = json.loads((tmp_path / "chain" / "sweep-1" / "results.json").read_text())
    assert stored["gradient"] is None and len(stored["cells"]) == 6


def test_a_policy_without_rewards_has_a_map_and_no_gradient(tmp_path, capsys):
    never = {**TINY, "max_episode_steps": 2}  # the end of the chain is farther away
    nothing = pg.sweep("chain", **never, gamma=0.9, gae_lambda=1, seeds=1, trajectories=32, batch=8, out=tmp_path)
    assert (
        nothing.surface is None
        and "no gradient was measured: every gradient is exactly zero" in capsys.readouterr().err
    )
    assert (nothing.path / "map.png").exists()


def test_a_gradient_that_may_be_zero_is_no_unit(found):
    low = found.surface.true_norm._replace(value=-1.0, low=0.0)
    unknown = module.replace(found.surface, true_norm=low)
    assert np.isnan(unknown.relative("bias")).all() and np.isfinite(found.surface.relative("bias")).all()
    assert "cannot be told from zero" in module.replace(found, surface=unknown).table()


def test_a_diverged_run_is_a_gap_and_not_the_best(found, tmp_path):
    broken = found.returns.copy()
    broken[found.best] = np.nan
    other = module.replace(found, returns=broken, surface=None)
    assert other.best != found.best and "–" in other.table()
    assert None in [cell["mean"] for cell in other.to_dict()["cells"]]
    assert other.plot(tmp_path / "gap.png").stat().st_size > 1000


def test_the_score_decides_what_is_best(found):
    returns = np.zeros_like(found.returns)
    returns[0, 1] = 1.0
    final = module.replace(found, score="final", returns=returns)
    assert final.best == (0, 1) and final.mean[0, 1] == 1.0
    assert "greedy return" in final.table().splitlines()[0]


def scores(found, cells):
    """The map with these final returns, ``{(i, j): [per seed]}``; elsewhere 0."""
    returns = np.zeros((*found.returns.shape[:2], len(next(iter(cells.values())))))
    for cell, values in cells.items():
        returns[cell] = values
    curves = np.zeros((len(found.steps), *returns.shape))
    return module.replace(found, score="final", returns=returns, curves=curves, surface=None)


def test_cells_whose_intervals_overlap_are_not_told_apart(found):
    near = scores(found, {(0, 1): [9, 10, 11, 12], (1, 2): [7, 9, 10, 11], (1, 1): [1, 2, 3, 4]})
    assert near.best == (0, 1) and np.argwhere(near.alike).tolist() == [[0, 1], [1, 2]]
    words = near.best_in_words()
    assert words.startswith("best: γ = 0.5, λ = 0.9, 10.5\n") and "seeds" not in words
    assert "1 of the other 5 cells cannot be told from it: the intervals overlap" in words
    stored = near.to_dict()
    assert stored["best"]["alike"] == 1 and sum(cell["alike"] for cell in stored["cells"]) == 2
    alone = scores(found, {(0, 1): [9, 10, 11, 12]})
    assert alone.alike.sum() == 1 and alone.best_in_words() == "best: γ = 0.5, λ = 0.9, 10.5"


def test_equal_cells_have_no_best(found):
    equal = module.replace(found, score="final", returns=np.ones_like(found.returns))
    words = equal.best_in_words()
    assert words.startswith("best: none; γ = 0.5, λ = 0 has 1\n") and equal.alike.all()
    assert "5 of the other 5 cells cannot be told from it: the means are equal" in words
    assert "a policy from this cell, the first of the highest mean" in words  # gradients were measured
    assert "intervals of 2 seeds are much too narrow: give at least 4 seeds" in words


def test_what_one_seed_or_a_diverged_run_leaves_unknown(found):
    one = scores(found, {(0, 1): [2.0], (1, 1): [2.0]})
    assert one.alike.sum() == 2 and "one seed has no interval" in one.best_in_words()
    gone = scores(found, {(0, 1): [9, 10, 11, np.nan], (1, 2): [1, 1, 1, 1]})
    assert gone.best == (1, 2) and gone.alike.sum() == 1
    nowhere = module.replace(found, returns=np.full_like(found.returns, np.nan))
    assert nowhere.best_in_words().startswith("best: none; every cell has a run that diverged")


def test_json_has_no_nan():
    assert json_ready({"a": (np.float32(1), float("nan"), [np.int64(2), np.inf])}) == {"a": [1.0, None, [2, None]]}


# Mistakes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gamma": [0.9, 1.5]}, r"gamma must be numbers in \[0, 1\], not 1.5"),
        ({"gamma": [float("nan")]}, "gamma must be numbers in"),
        ({"gae_lambda": [-0.1]}, "gae_lambda must be numbers in"),
        ({"gae_lambda": ["much"]}, "gae_lambda must be numbers in"),
        ({"gamma": []}, "gamma needs at least one value"),
        ({"gae_lambda": [0.9, 0.5, 0.9]}, "gae_lambda holds 0.9 twice"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"algo": "reinforce"}, "reinforce has no λ"),
        ({"algo": "a2c"}, "a2c has no λ"),
        ({"algo": "a3c-gae"}, "asynchronous workers"),
        ({"algo": "a2x"}, "did you mean 'a2c'"),
        ({"env": "CartPol-v1"}, "Did you mean CartPole-v1"),
        ({"env": "gym:CartPole-v1"}, "stepped on the host.*sweep its pure twin CartPole-v1"),
        ({"env": "LunarLander-v3"}, "stepped on the host"),
        ({"stop_reward": 10.0}, "stop_reward does nothing in a sweep"),
        ({"gama": 1}, "unknown option 'gama'"),
        ({"trajectories": 10}, r"at least four batches of 16 \(64\) episodes"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"score": "finl"}, "did you mean 'final'"),
        ({"net": (100_000, 100_000)}, "would hold .* GiB"),
    ],
)
def test_mistakes_are_sentences(changes, message, tmp_path):
    options = {"env": "chain", "algo": "a2c-gae", "gamma": [0.9], "gae_lambda": [1.0], "out": tmp_path} | changes
    with pytest.raises((RecipeError, ValueError), match=message):
        pg.sweep(**options)
    assert not list(tmp_path.iterdir())


def test_an_endless_world_cannot_be_measured():
    class Endless(type(pg.make("probe:constant"))):
        time_limit = None

    with pytest.raises(RecipeError, match="no time limit: set max_episode_steps, or trajectories=0"):
        pg.sweep(Endless(), gamma=[0.9], gae_lambda=[1.0], out=None)


# Measuring


@pytest.fixture(scope="module")
def world():
    """A small random MDP, a softmax table, and how it is played."""
    mdp = random_mdp(jax.random.key(3), n_states=3, n_actions=2, horizon=4)
    model = make_model(mdp.observation_space, mdp.action_space, key=jax.random.key(0), policy="tabular")
    rows = jax.random.normal(jax.random.key(1), model.actor.head.last.rows.shape)
    model = eqx.tree_at(lambda m: m.actor.head.last.rows, model, rows)
    collector = pg.episode_collector(pg.autoreset(mdp, 4), 256)
    play = jax.jit(lambda key: collector.collect(model, collector.init(model, key), key)[1])
    return mdp, model, play


def test_a_fitted_critic_is_the_value_of_its_discount(world):
    """V^γ of the states, weighed as they are visited: what least squares on returns-to-go finds."""
    mdp, model, play = world
    (critic,) = fit_critics(play, model, [0.7], trajectories=8192, batch=256, seed=0)
    value = np.asarray(policy_evaluation(mdp, policy_probabilities(mdp, model, 4), 0.7))  # [T+1, S]
    trajectory = play(jax.random.key(99))
    states, times = (np.asarray(x)[np.asarray(trajectory.mask)] for x in (trajectory.obs, trajectory.time))
    for state in range(3):
        expected = value[times[states == state], state].mean()
        assert float(critic.critic.last.rows[state, 0]) == pytest.approx(expected, abs=0.05)


def test_bias_and_variance_are_those_of_the_oracle(world):
    mdp, model, play = world
    found = measure_surface(play, model, [0.5, 1.0], [0.0, 1.0], trajectories=8192, batch=256)
    critics = fit_critics(play, model, [0.5, 1.0], trajectories=8192, batch=256, seed=1)
    truth = gradient(mdp, model, 1.0)
    for row, critic in zip(found.cells, critics):
        for cell in row:
            psi = pg.Psi("lambda_return", "value", gamma=cell.gamma, lam=cell.lam)
            exact = ladder_moments(mdp, model, {"x": psi}, critic=critic, reference=truth)["x"]
            bias = float(sum(jnp.sum(x**2) for x in jax.tree.leaves(exact.bias)))
            assert cell.bias.value == pytest.approx(bias, abs=4 * cell.bias.error + 1e-9)
            variance = float(exact.variance) / 256
            assert cell.variance.value == pytest.approx(variance, rel=0.1)
    whole = found.cells[1][1]  # γ = λ = 1 with V¹ is the true gradient's own estimator
    assert abs(whole.bias.value) < 1e-12 and whole.cosine.value == pytest.approx(1.0)  # float32 sums, in another order
    assert found.cells[0][0].bias.told_from_zero  # and the test could see a bias


def test_the_error_at_the_best_scale_forgives_length_and_counts_noise():
    """x = c·(g + h) + noise with h ⊥ g: E‖x̄‖² = c²(‖g‖² + ‖h‖²) + σ²d/N."""
    rng, d, n = np.random.default_rng(0), 8, 400
    g, h, sigma, batch, c = np.eye(d)[0] * 3, np.eye(d)[1] * 1.5, 2.0, 4, 0.2
    true = g + rng.normal(size=(n, d)) * 0.5
    x = c * (g + h + sigma * rng.normal(size=(n, d)))
    found = error_at_best_scale(x @ x.T, (x @ true.T + true @ x.T) / 2, true @ true.T, batch)
    exact = 1 - 9 / (9 + 1.5**2 + sigma**2 * d / batch)
    assert found.low < exact < found.high and found.error < 0.05
