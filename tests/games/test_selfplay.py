"""Self-play: its gradients are exact or unbiased, plain play cycles, and the other two come to equilibrium."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.games import GAMES, exploitability, matrix_game, nash, selfplay
from policygrad.games.selfplay import exact_gradient, gradient_pair, natural, score_gradient

KEY = jax.random.key(3)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def problem():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(2, 3, 2))), (jnp.asarray(rng.normal(size=3)), jnp.asarray(rng.normal(size=2)))


def test_the_exact_gradient_is_that_of_the_expected_payoff(x64):
    payoffs, logits = problem()

    def paid(player):
        policies = lambda x, y: (jax.nn.softmax(x), jax.nn.softmax(y))  # noqa: E731
        return lambda x, y: jnp.einsum("a,ab,b->", policies(x, y)[0], payoffs[player], policies(x, y)[1])

    row, column = gradient_pair(payoffs, logits, KEY, 0)
    np.testing.assert_allclose(row, jax.grad(paid(0), 0)(*logits), rtol=0, atol=1e-14)
    np.testing.assert_allclose(column, jax.grad(paid(1), 1)(*logits), rtol=0, atol=1e-14)


def test_the_sampled_gradient_is_unbiased(x64):
    """Every batch of two games with its exact probability: the leave-one-out baseline costs no bias."""
    payoffs, logits = problem()
    x, y = (np.asarray(jax.nn.softmax(theta)) for theta in logits)
    games = list(product(range(3), range(2)))
    sample = jax.jit(jax.vmap(lambda a, b: score_gradient(logits[0], a, payoffs[0][a, b])))
    pairs = [(g, h) for g in games for h in games]
    probability = np.array([x[a] * y[b] * x[c] * y[d] for (a, b), (c, d) in pairs])
    found = sample(*(jnp.array([[g[i], h[i]] for g, h in pairs]) for i in (0, 1)))
    exact, _ = gradient_pair(payoffs, logits, KEY, 0)
    assert probability.sum() == pytest.approx(1, abs=1e-14)
    np.testing.assert_allclose(probability @ found, exact, rtol=0, atol=1e-14)


def test_the_natural_gradient_undoes_the_fisher_information(x64):
    """F d = g with F = diag(π) − ππᵀ, and d is the advantage."""
    worth, logits = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.3, -1.0, 0.2])
    pi, g = jax.nn.softmax(logits), exact_gradient(logits, worth)
    d = natural(g, pi, 0)
    np.testing.assert_allclose((jnp.diag(pi) - jnp.outer(pi, pi)) @ d, g, rtol=0, atol=1e-14)
    np.testing.assert_allclose(d, worth - pi @ worth, rtol=0, atol=1e-14)


def test_plain_gradients_cycle_and_the_others_come_to_rest():
    game, found = GAMES["rps"](), {}
    for method in ("plain", "entropy", "average"):
        found[method] = selfplay(game, method, steps=3000, key=KEY)
    assert found["plain"].exploitability[-500:].min() > 0.5
    leader = found["plain"].row[-1000:].argmax(axis=1)
    assert set(leader.tolist()) == {0, 1, 2}, "rock, paper and scissors take turns"
    assert found["entropy"].exploitability[-1] < 1e-4 and found["average"].exploitability[-1] < 0.01


@pytest.mark.parametrize("method", ["entropy", "average"])
def test_nash_that_is_not_uniform(method):
    """Against the linear program, for both players; payoffs in other units change nothing but the exploitability's."""
    game = GAMES["rps-unequal"]()
    x, y, _ = nash(game)
    play = selfplay(game, method, steps=3000, key=KEY)
    assert play.exploitability[-1] < 0.01
    np.testing.assert_allclose(play.row[-1], x, atol=0.005)
    np.testing.assert_allclose(play.column[-1], y, atol=0.005)
    large = selfplay(matrix_game(1000 * game.payoffs[0]), method, steps=3000, key=KEY)
    np.testing.assert_allclose(large.row[-1], play.row[-1], atol=1e-3)


def test_a_random_rectangular_game():
    game = matrix_game(np.random.default_rng(7).normal(size=(3, 5)))
    _, _, value = nash(game)
    play = selfplay(game, "entropy", steps=3000, key=KEY)
    assert play.exploitability[-1] < 0.01
    assert play.row[-1] @ game.payoffs[0] @ play.column[-1] == pytest.approx(value, abs=0.01)


def test_sampled_games_come_to_equilibrium_on_average():
    """256 games an update, seed 3."""
    play = selfplay(GAMES["rps"](), "average", steps=3000, batch=256, key=KEY)
    assert play.exploitability[-1] < 0.02


def test_dominance_is_found_by_plain_gradients():
    play = selfplay(GAMES["prisoners-dilemma"](), "plain", key=KEY, steps=3000)
    assert play.row[-1][1] > 0.99 and play.column[-1][1] > 0.99


def test_payoffs_of_another_origin_change_nothing_and_constant_ones_are_a_game():
    game = GAMES["prisoners-dilemma"]()
    far = matrix_game(game.payoffs[0] + 1e6, game.payoffs[1] - 1e6)
    near, same = (selfplay(g, "plain", key=KEY, steps=3000) for g in (game, far))
    np.testing.assert_allclose(near.row, same.row, atol=1e-5)
    flat = selfplay(matrix_game([[7, 7], [7, 7]], symmetric=True), "plain", key=KEY, steps=3000)
    assert flat.exploitability.max() < 1e-12 and np.array_equal(flat.row[0], flat.row[-1])


def test_what_is_kept():
    play = selfplay(GAMES["rps"](), "average", steps=3000, key=KEY)
    assert play.step[0] == 0 and play.step[-1] == 3000 and (np.diff(play.step) > 0).all()
    assert len(play.step) == len(play.row) == len(play.column) == len(play.exploitability)
    again = [exploitability(GAMES["rps"](), x, y) for x, y in zip(play.row[:3], play.column[:3])]
    assert play.exploitability[:3].tolist() == again
    same = selfplay(GAMES["rps"](), "average", steps=3000, key=KEY)
    assert np.array_equal(same.row, play.row), "the same key, the same bits"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "plane"}, "unknown method 'plane'"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"batch": 1}, "or at least 2 games"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": 10.0}, "product below 1"),
        ({"ent_coef": -1.0}, "ent_coef not negative"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        selfplay(GAMES["rps"](), **options, key=KEY)
