"""What is left of old data, in closed form; and who plays them: every draw is of whole and different episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.collect.dataset import dataset_collector
from policygrad.learn.old_data import overlap
from policygrad.models import make_model
from policygrad.spaces import spaces
from policygrad.types import Trajectory

LOG_RHO = jnp.log(jnp.array([[1.0, 1, 1, 3], [2, 2, 1, 1]]))
MASK = jnp.array([[True, True, True, True], [True, True, True, False]])


def share(*weights):
    return sum(weights) ** 2 / sum(w * w for w in weights)


@pytest.mark.parametrize(
    ("correction", "expected"),
    [
        ("trajectory", share(2, 2, 1, 3) / 4),
        ("self_normalized", share(2, 2, 1, 3) / 4),
        ("truncated", share(2, 2, 1, 3) / 4),
        ("decision", (share(1, 1, 1, 3) + share(2, 2, 1)) / 7),
        ("vtrace", (share(1, 1, 1, 3) + share(2, 2, 1)) / 7),
    ],
)
def test_overlap_is_the_share_that_is_left(correction, expected):
    """The last episode ends after one row: its second row says nothing, whatever stands there."""
    garbage = LOG_RHO.at[1, 3].set(50.0)
    assert float(overlap(garbage, MASK, correction)) == pytest.approx(expected, rel=1e-6)


def test_decision_and_vtrace_differ_by_the_past():
    log_rho = jnp.log(jnp.array([[1.0, 4.0], [1.0, 1.0]]))
    mask = jnp.ones((2, 2), bool)
    assert float(overlap(log_rho, mask, "decision")) == pytest.approx(2 * share(1, 4) / 4)
    assert float(overlap(log_rho, mask, "vtrace")) == pytest.approx((share(1, 4) + 2) / 4)


CORRECTIONS = ("none", "trajectory", "self_normalized", "truncated", "decision", "vtrace")


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("tiny", [0.0, -1e-3, -4.0, -500.0])
def test_what_the_data_never_do_does_not_overlap(correction, tiny):
    """Weights that are all alike have ESS = N, whatever they are; only their mean tells π = μ (exactly one) from data
    of what π hardly ever does."""
    log_rho = jnp.full((1, 4), tiny)
    expected = 1.0 if tiny == 0 else pytest.approx(np.exp(tiny), rel=1e-5)
    assert float(overlap(log_rho, jnp.ones((1, 4), bool), correction)) == expected


def test_an_ended_episode_still_counts_in_the_mean_of_decision():
    """π ends at once, which half of the episodes did: at the second time E_μ[ρ] is one only with those. Of ρ_2 alone,
    which is one, there is no more to say: V-trace counts the running."""
    log_rho = jnp.log(jnp.array([[2.0, 2.0, 0.01, 0.01], [1.0, 1.0, 1.0, 1.0]]))
    mask = jnp.array([[True] * 4, [False, False, True, True]])
    first = share(2, 2, 0.01, 0.01)
    assert float(overlap(log_rho, mask, "decision")) == pytest.approx((first + 2) / 6)
    assert float(overlap(log_rho, mask, "vtrace")) == pytest.approx((first + 2) / 6)
    assert float(overlap(log_rho - jnp.log(2.0), mask, "vtrace")) == pytest.approx((first * 1.005 / 2 + 1) / 6)


def test_hopeless_data_are_one_episode_of_little_weight():
    log_rho = jnp.array([[0.0, -500.0, -900.0]])
    assert float(overlap(log_rho, jnp.ones((1, 3), bool), "trajectory")) == pytest.approx(1 / 3 / 3)


def test_episodes_are_drawn_whole_and_none_twice():
    n, grid = 10, np.arange(20).reshape(2, 10)
    no, yes = np.zeros((2, n), bool), np.ones((2, n), bool)
    data = Trajectory(grid[..., None] * 1.0, grid, grid * 1.0, no, no, grid * 0.1, grid * 0, no, yes, None, grid[:1])
    space = spaces.Box(-1, 1, (1,))
    gru = make_model(space, spaces.Discrete(2), key=jax.random.key(0), policy="gru", net=(3,))
    collector = dataset_collector(jax.tree.map(jnp.asarray, data), 6)
    drawn = [collector.collect(gru, (), jax.random.key(k)) for k in range(3)]
    for _, trajectory, finished in drawn:
        columns = np.asarray(trajectory.action[0])
        assert len(set(columns)) == 6 and trajectory.carry.shape == (6, 3) and not finished.done.any()
        np.testing.assert_array_equal(trajectory.action[1], columns + 10)
        np.testing.assert_array_equal(trajectory.cut_obs[0], columns)
        np.testing.assert_allclose(trajectory.log_mu[1], 0.1 * (columns + 10), rtol=1e-6)
    assert len({tuple(np.asarray(t.action[0])) for _, t, _ in drawn}) == 3
