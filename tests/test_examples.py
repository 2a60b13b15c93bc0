"""Every example runs, small, and gives what it says."""

import runpy
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def main_of(name):
    """The example's ``main``; importing alone must run nothing."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name=f"example_{name}")["main"]


def test_examples_are_short():
    files = {path.stem: path.read_text() for path in EXAMPLES.glob("*.py")}
    assert set(files) >= {
        "quickstart",
        "own_env",
        "own_gym_env",
        "own_model",
        "by_hand",
        "sweep",
        "gradient_on_the_desk",
        "demo",
        "clone",
        "old_data",
        "kl_both_ways",
        "random_walk",
        "bandit",
        "maximum_entropy",
        "rock_paper_scissors",
        "horizons",
    }
    assert all(text.count("\n") < 80 for text in files.values())


def test_quickstart(capsys):
    mean = main_of("quickstart")(total_timesteps=4096, episodes=4)
    assert 5 < mean <= 500
    assert "on Gymnasium's own CartPole-v1" in capsys.readouterr().out


def test_own_env_small():
    assert -1 <= main_of("own_env")(total_timesteps=2000) <= 1


def test_own_gym_env():
    assert -50 < main_of("own_gym_env")(total_timesteps=2000) < 0


@pytest.mark.slow
def test_own_gym_env_learns():
    """Seed 0, 100,000 steps: heating at random keeps the room about 6 degrees off."""
    assert main_of("own_gym_env")() > -15


@pytest.mark.slow
def test_own_env():
    chance = -1 + 2 / 7
    assert main_of("own_env")(total_timesteps=60_000) > chance + 0.2


def test_own_model(capsys):
    found = main_of("own_model")(total_timesteps=2000, seeds=1)
    assert set(found) == {"mirror", "mlp"} and min(found.values()) > 8
    words = capsys.readouterr().out.split()
    assert {words[-3], words[-1]} == {"0", "1"}


def test_by_hand():
    returns = main_of("by_hand")(n_updates=80)
    assert np.mean(returns[-2:]) > 2 * returns[0]


def test_sweep(capsys):
    sweep = main_of("sweep")
    found = sweep(seeds=2, n_updates=40, gammas=np.array([0.9, 0.99]), lambdas=np.array([0.9]))
    assert found.shape == (2, 1, 2) and (found > 5).all()
    assert len(np.unique(found)) == 4, "numbers and seeds are leaves: every run is another one"
    assert "γ = 0.99" in capsys.readouterr().out


def test_gradient_on_the_desk():
    variance = main_of("gradient_on_the_desk")(n_episodes=32)
    total, to_go, *better = variance.values()
    assert to_go < total and max(better) < to_go


def test_kl_both_ways(capsys):
    found = main_of("kl_both_ways")(steps=150, n=2000)
    assert 1.3 < jnp.exp(found["forward"].log_std[0]) < 2.5 and jnp.exp(found["reverse"].log_std[0]) < 0.9
    assert "D(new‖old) = 0.00500" in capsys.readouterr().out


def test_random_walk(capsys):
    best = main_of("random_walk")(runs=30)
    assert best["4-step TD"][0] < min(best["1-step TD"][0], best["16-step TD"][0]) and 0.22 < best["4-step TD"][0] < 0.3
    assert "[-0.9 -0.8 -0.7 -0.6 -0.5]" in capsys.readouterr().out


def test_demo(tmp_path, capsys):
    two = {"REINFORCE": ("reinforce", {}), "+ critic, GAE": ("a2c-gae", {})}
    main_of("demo")(a2c_steps=4000, ladder_steps=4000, seeds=2, out=tmp_path, rungs=two)
    words = capsys.readouterr().out
    assert "REINFORCE" in words and "+ critic, GAE" in words and f"{tmp_path}" in words
    assert any(tmp_path.rglob("ladder.png")) and any(tmp_path.rglob("last.safetensors"))


def test_maximum_entropy():
    """Seed 0, 1,000,000 steps."""
    learned, exact = main_of("maximum_entropy")(alphas=(0.1,))[0.1]
    assert learned == pytest.approx(exact, abs=0.02)


def test_rock_paper_scissors(capsys):
    found = main_of("rock_paper_scissors")(steps=1000, total_timesteps=4000, opponents=())
    assert found["entropy"][-1] < found["average"][-1] < 0.01 < 0.5 < found["plain"][-1]
    learned, best = found["plain, exploited"]
    assert 0.05 < learned <= best and best > 0.2
    assert np.abs(found["entropy, exploited"]).max() < 0.001
    assert "rock over scissors pays 3" in capsys.readouterr().out


def test_horizons_small(capsys):
    example = runpy.run_path(str(EXAMPLES / "horizons.py"), run_name="example_horizons")
    found = example["main"](0.05, lessons=(example["time_to_go"], example["ledges"]))
    assert 8 < found["does not see the time"] < 11.1 and 8 < found["sees T − t"] <= 17
    assert found["γ = 0.5"] == found["γ = 0.85"] == -1 and found["γ = 0.9"] == found["γ = 1.0"] == 0
    assert "Paid 1 now" in capsys.readouterr().out


@pytest.mark.slow
def test_rock_paper_scissors_exploits():
    """Seed 0, 40,000 steps against each opponent: within 0.01 a round of the best response."""
    found = main_of("rock_paper_scissors")()
    for name in ("rock", "cycle", "copycat", "win-stay", "often-rock", "uniform"):
        learned, best = found[name]
        assert learned == pytest.approx(best, abs=0.01)


@pytest.mark.slow
def test_horizons():
    """Seeds 0 to 7 for diversity, else 0; the usual budgets."""
    found = main_of("horizons")()
    assert found["always from the foot"] < 0.1 < 0.9 < found["half of them on the way"]
    assert found["1 worker"] < found["16 workers"] == found["1 worker, entropy bonus"] == 1
    assert found["does not see the time"] < 11.1 < 16 < found["sees T − t"]
    assert found["the cut as an end"] < 25 < 32 < found["cut after 5 steps, V goes on"]


def test_bandit(capsys):
    clicked, right = main_of("bandit")(visitors=150, rows=400)
    assert clicked > 0.5 and right > 0.6, "chance: 0.46 of random layouts are clicked, 0.1 of the digits right"
    assert "digits: after 400 guesses" in capsys.readouterr().out


def test_old_data(capsys):
    sizes = {"practice": 200, "episodes": 100, "total_timesteps": 2000}
    found = main_of("old_data")(**sizes, env="probe:observation-action")
    assert found["before"] < found["played"] and abs(found["judged"] - found["played"]) < 0.4
    assert "episodes, worth" in capsys.readouterr().out


def test_clone(capsys):
    found = main_of("clone")(episodes=3, epochs=2, total_timesteps=3200, judged=4)
    assert found["expert"] > -200
    words = capsys.readouterr().out
    assert "3 demonstrations" in words and "nats a step" in words


@pytest.mark.slow
def test_clone_learns():
    """Seed 0, 50,000 steps: the hill is reached; a policy that begins at random has −200."""
    found = main_of("clone")()
    assert min(found["clone"], found["DAgger"]) > -190 and found["clone, then reinforce-mean"] > -150
