"""The simulation against everything about it that is known in closed form."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from policygrad.parallel.simulate import (
    Compared,
    Measured,
    System,
    Times,
    agrees,
    ceiling,
    compare,
    fit,
    measured_times,
    one_learner,
    parameter_server,
    rate_of_one,
    saturation,
    shared_memory,
    simulate,
)

MS = 1e-3
PLAY, TRANSFER, SERVICE = Times(8 * MS), Times(1 * MS), Times(0.5 * MS)
SERVER = parameter_server(PLAY, TRANSFER, SERVICE, rows=40)
LEARNER = one_learner(PLAY, TRANSFER, SERVICE)
NOISY = parameter_server(PLAY._replace(spread=0.5), TRANSFER._replace(spread=0.3), SERVICE._replace(spread=1.0))


def machine_repairman(workers, think, service):
    """Jobs per second of the closed M/M/1 queue: (1 − p₀)/S, 1/p₀ = Σ_k N!/(N − k)! (S/Z)^k."""
    terms = [math.perm(workers, k) * (service / think) ** k for k in range(workers + 1)]
    return (1 - 1 / sum(terms)) / service


@pytest.mark.parametrize("workers", [1, 5, 20, 40])
def test_exponential_times_give_the_closed_form(workers):
    system = System(Times(10 * MS, 1.0), service=Times(0.5 * MS, 1.0))
    found = simulate(system, workers, updates=30_000)
    assert found.updates_per_second == pytest.approx(machine_repairman(workers, 10 * MS, 0.5 * MS), rel=0.04)


@pytest.mark.parametrize(
    "system", [SERVER, replace(SERVER, shards=4, message=0.1 * MS), LEARNER, shared_memory(PLAY, cores=16)]
)
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0, 2.0])
def test_constant_times_meet_the_bounds(system, share):
    workers = max(1, int(share * saturation(system)))
    assert simulate(system, workers).updates_per_second == pytest.approx(ceiling(system, workers), rel=1e-3)


def test_the_saturation_point_is_where_the_bounds_cross():
    assert saturation(SERVER) == pytest.approx((8 + 2 * 1 + 0.5) / 0.5)
    assert saturation(LEARNER) == pytest.approx(8 / 0.5)
    assert saturation(replace(SERVER, shards=5)) == pytest.approx((8 + 2 * 1 + 0.1) / 0.1)
    assert saturation(shared_memory(PLAY, cores=16)) == 16
    for system in (SERVER, LEARNER, NOISY):
        knee = saturation(system)
        assert simulate(system, int(knee / 4)).updates_per_second == pytest.approx(
            int(knee / 4) * rate_of_one(system), rel=0.04
        )
        assert simulate(system, int(knee * 4)).updates_per_second == pytest.approx(1 / system.slice, rel=0.04)


@pytest.mark.parametrize(
    "system", [SERVER, NOISY, replace(NOISY, shards=3), shared_memory(Times(8 * MS, 0.5), cores=4)]
)
@pytest.mark.parametrize("workers", [1, 2, 100])
def test_gradients_are_w_minus_1_updates_old(system, workers):
    """Between a worker's two updates every other one has, on average, one."""
    found = simulate(system, workers, updates=10_000)
    assert found.staleness_mean == pytest.approx(workers - 1, rel=4e-3)
    assert found.staleness_p95 >= found.staleness_mean


@pytest.mark.parametrize("workers", [1, 3, 200])
def test_trajectories_are_2w_minus_1_updates_old(workers):
    """A worker that plays on has two copies in use."""
    found = simulate(LEARNER, workers, updates=10_000)
    assert found.staleness_mean == pytest.approx(2 * workers - 1, rel=4e-3)
    waits = simulate(replace(LEARNER, plays_on=False), workers, updates=10_000)
    assert found.updates_per_second > 1.2 * waits.updates_per_second or workers == 200


def test_a_message_that_takes_longer_than_a_window_is_waited_for():
    slow = one_learner(PLAY, Times(6 * MS), SERVICE)
    assert simulate(slow, 4).updates_per_second == pytest.approx(4 / (12.5 * MS), rel=2e-3)
    assert saturation(slow) == pytest.approx(12.5 / 0.5)


@pytest.mark.parametrize("workers", [5, 60])
def test_littles_law_and_the_utilisation_law(workers):
    found = simulate(NOISY, workers, updates=20_000)
    assert found.queue == pytest.approx(found.updates_per_second * found.sojourn, rel=0.01)
    assert found.busy == pytest.approx(found.updates_per_second * NOISY.slice, rel=0.03)
    assert found.busy <= 1.02 and found.sojourn >= 0.98 * NOISY.slice


def test_cores_slow_each_other_down():
    """n / (1 + σ(n − 1)): with σ = 0.1, sixteen cores are worth 6.4."""
    system = shared_memory(PLAY, cores=16, contention=0.1)
    worth = simulate(system, 16).updates_per_second / simulate(system, 1).updates_per_second
    assert worth == pytest.approx(16 / 2.5, rel=1e-3)
    assert simulate(system, 64).updates_per_second == pytest.approx(16 / (2.5 * 8 * MS), rel=5e-3)


def test_shards_raise_the_ceiling_until_messages_are_all():
    system = replace(SERVER, message=0.1 * MS)
    rates = [simulate(replace(system, shards=n), 1000).updates_per_second for n in (1, 4, 16)]
    expected = [1 / (0.6 * MS), 1 / (0.225 * MS), 1 / (0.13125 * MS)]
    np.testing.assert_allclose(rates, expected, rtol=0.01)


def test_steps_are_updates_times_rows():
    found = simulate(SERVER, 4)
    assert found.steps_per_second == pytest.approx(40 * found.updates_per_second)


def test_the_same_seed_gives_the_same_forecast():
    assert simulate(NOISY, 20, seed=3) == simulate(NOISY, 20, seed=3) != simulate(NOISY, 20, seed=4)


def test_ten_thousand_workers_take_seconds():
    clock = time.process_time()
    found = simulate(NOISY, 10_000)
    assert time.process_time() - clock < 20
    assert found.updates_per_second == pytest.approx(1 / NOISY.slice, rel=0.05)
    assert found.staleness_mean == pytest.approx(9999, rel=0.01)


def test_times_have_their_mean_and_spread():
    rng = np.random.default_rng(0)
    gamma = Times(2.0, 0.5).draw(rng, 100_000)
    assert gamma.mean() == pytest.approx(2, rel=0.01) and gamma.std() == pytest.approx(1, rel=0.02)
    seen = measured_times([1.0, 1.0, 4.0])
    assert seen.mean == 2 and seen.spread == pytest.approx(math.sqrt(2) / 2)
    doubled = seen._replace(mean=4.0).draw(rng, 1000)
    assert set(doubled) == {2.0, 8.0}
    assert set(Times(3.0).draw(rng, 5)) == {3.0}


@pytest.mark.parametrize(
    ("truth", "guess"),
    [
        (shared_memory(Times(2 * MS, 0.3), cores=2, contention=0.07), shared_memory(Times(1.5 * MS, 0.3), cores=2)),
        (NOISY, replace(NOISY, transfer=Times())),
        (replace(NOISY, cores=4, contention=0.2), replace(NOISY, transfer=Times(0.2 * MS), cores=4)),
    ],
)
def test_a_fit_on_one_and_two_workers_predicts_three_and_four(truth, guess):
    rows = [Measured(n, simulate(truth, n, updates=12_000, seed=7 + n).updates_per_second) for n in (1, 2, 3, 4)]
    found = fit(guess, rows[:2])
    assert found.contention == pytest.approx(truth.contention, abs=0.03)
    compared = compare(found, rows[2:])
    assert [row.workers for row in compared] == [3, 4]
    assert agrees(compared, 0.05)


def test_workers_that_are_quicker_together_than_apart_share_the_error():
    rows = [Measured(1, 100.0), Measured(2, 242.0)]
    found = fit(shared_memory(Times(1.0), cores=2), rows)
    assert found.contention == 0
    assert [row.error for row in compare(found, rows)] == pytest.approx([0.1, -1 / 11], abs=1e-3)


def test_a_wrong_model_does_not_agree():
    rows = [Measured(n, n * 100.0) for n in (1, 2, 4)]
    assert not agrees(compare(fit(shared_memory(PLAY, cores=2), rows[:2]), rows[2:]), 0.1)
    assert not agrees([], 0.1) and agrees([Compared(2, 100.0, 109.0)]) and not agrees([Compared(2, 100.0, 111.0)])
    with pytest.raises(ValueError, match="a measurement with one worker: add one"):
        fit(SERVER, rows[1:])
