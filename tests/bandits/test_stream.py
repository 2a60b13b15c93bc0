"""Streams: what is logged is what happened, and a stream that is cut, saved and resumed is the same stream."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.bandits import fit_encoder, load_bandit, play, progressive, save_bandit, shuffled, squarecb, stream
from policygrad.envs.page_layout import PageLayout
from policygrad.storage.checkpoint import CheckpointError, save

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def world():
    """Features with an intercept, and rewards of 0 or 1 that a linear model can learn."""
    random = np.random.default_rng(0)
    x = np.c_[random.normal(size=(300, 3)), np.ones(300)].astype(np.float32)
    return x, np.eye(3, dtype=np.float32)[(x @ random.normal(size=(4, 3))).argmax(1)]


@pytest.fixture(scope="module")
def bandit():
    return squarecb(3, 4, gamma_scale=30.0)


def test_the_log_says_what_happened(world, bandit):
    _, log = progressive(bandit, bandit.init(KEY), KEY, *world)
    each = np.arange(300)
    np.testing.assert_array_equal(log.reward, world[1][each, log.action])
    np.testing.assert_array_equal(log.propensity, np.asarray(log.probabilities)[each, log.action])
    np.testing.assert_allclose(np.sum(log.probabilities, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(log.probabilities[0], 1 / 3, atol=1e-6)
    assert np.mean(log.reward[-100:]) > 0.85


def test_cut_saved_and_resumed_it_is_the_same_stream_bit_for_bit(world, bandit, tmp_path):
    features, rewards = world
    whole, log = progressive(bandit, bandit.init(KEY), KEY, features, rewards)
    state, first = progressive(bandit, bandit.init(KEY), KEY, features[:120], rewards[:120])
    encoder = fit_encoder({"a": features[:, 0], "b": features[:, 1], "c": features[:, 2]})
    made = dict(explorer="squarecb", options={"gamma_scale": 30.0}, encoder=encoder, classes=("x", "y", "z"), seed=3)
    save_bandit(tmp_path / "half.safetensors", state, **made)
    saved = load_bandit(tmp_path / "half.safetensors")
    assert saved.encoder == encoder and saved.classes == ("x", "y", "z") and saved.recipe["seed"] == 3
    state, second = progressive(saved.bandit, saved.state, KEY, features[120:], rewards[120:])
    jax.tree.map(np.testing.assert_array_equal, state, whole)
    jax.tree.map(lambda a, b, c: np.testing.assert_array_equal(np.concatenate([a, b]), c), first, second, log)


def test_a_file_that_holds_something_else_is_refused(tmp_path):
    save(tmp_path / "run.safetensors", {"a": jnp.zeros(2)}, recipe={"algo": "a2c"})
    with pytest.raises(CheckpointError, match="holds no bandit"):
        load_bandit(tmp_path / "run.safetensors")


def test_a_batch_is_chosen_with_one_model(world, bandit):
    """Within a batch the model stands still: recompute its probabilities from the state before."""
    features, rewards = world
    state, log = progressive(bandit, bandit.init(KEY), KEY, features[:70], rewards[:70], batch=32)
    assert int(state.rows) == 70 and log.action.shape == (70,) and log.probabilities.shape == (70, 3)
    state = bandit.init(KEY)
    for start, stop in ((0, 32), (32, 64), (64, 70)):
        rows = slice(start, stop)
        expected = bandit.predict(state, features[rows]).probabilities
        np.testing.assert_allclose(log.probabilities[rows], expected, atol=1e-5)
        state = bandit.learn(state, features[rows], log.action[rows], log.reward[rows])


@pytest.mark.parametrize("batch", [1, 32])
def test_pieces_are_the_whole_bit_for_bit(world, bandit, monkeypatch, batch):
    """300 rows in pieces of 100 (with batches of 32: of 96, so that no batch is cut) and in one."""
    whole = progressive(bandit, bandit.init(KEY), KEY, *world, batch=batch)
    calls, piece = [], stream.progressive_piece
    monkeypatch.setattr(stream, "PIECE", 100)
    monkeypatch.setattr(stream, "progressive_piece", lambda *a, **k: calls.append(len(a[2][0])) or piece(*a, **k))
    pieces = progressive(bandit, bandit.init(KEY), KEY, *world, batch=batch)
    assert calls == ([100] * 3 if batch == 1 else [96] * 3 + [12])
    jax.tree.map(np.testing.assert_array_equal, pieces, whole)


def test_every_shuffle_is_a_stream_of_its_own(world, bandit):
    orders = np.stack([np.arange(300), np.arange(300), np.arange(300)[::-1]])
    _, log = shuffled(bandit, KEY, *world, orders)
    assert (log.action[0] != log.action[1]).any(), "the same rows, other random numbers"
    np.testing.assert_array_equal(log.reward[2], world[1][orders[2], log.action[2]])


def test_a_bandit_learns_in_an_environment():
    """2,000 users, seed 3: chance is 0.45, the best policy has 0.74."""
    bandit = squarecb(3, 5, gamma_scale=30.0)
    state, played = play(bandit, PageLayout(), KEY, 2000)
    assert int(state.rows) == 2000 and played.done.all()
    np.testing.assert_array_equal(played.reward, played.ret)
    assert played.reward[-500:].mean() > 0.65
