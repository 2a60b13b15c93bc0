"""The command line as a user meets it: help, typos, exit codes, signals, and what each verb prints."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import policygrad as pg
from policygrad.cli.main import VERBS, main
from policygrad.cli.train import parser, shown
from policygrad.run.recipes import PRESETS

TINY = [
    *("--n-envs", "4", "--net", "8", "--total-timesteps", "400", "--log-every", "100"),
    *("--eval-every", "200", "--eval-episodes", "4", "--no-tensorboard"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of one recipe with different seeds (the second has two), and one of another."""
    root = tmp_path_factory.mktemp("runs")
    for name, extra in {"one": [], "two": ["--seed", "1", "--seeds", "2"], "other": ["--gamma", "0.9"]}.items():
        assert main(["train", "chain", *TINY, *extra, "--quiet", "--path", str(root / name)]) == 0
    return root


# Help


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_every_default(cli, verb):
    code, out, _ = cli(verb, "--help")
    assert code == 0 and out.startswith(f"usage: policygrad {verb}")
    options = [" ".join(option.split()) for option in out.split("\n  -")[2:]]  # whatever the terminal's width is
    assert all("default: " in option for option in options), [option for option in options if "default" not in option]


def test_defaults_are_those_of_the_algorithm(cli):
    assert "step size (default: 0.0007)" in cli("train", "--help")[1]
    out = cli("train", "--algo", "ppo", "--help")[1]
    assert "step size (default: 0.00025)" in out and "Schulman et al. (2017)" in out


def test_version_and_no_command(cli):
    assert cli("--version") == (0, f"policygrad {pg.__version__}\n", "")
    assert "commands:" in cli("--help")[1]
    code, out, _ = cli()
    assert code == 2 and "policygrad train CartPole-v1" in out


@pytest.mark.parametrize(
    "argv", [["--help"], ["--version"], ["list"], ["train", "--help"], ["train", "--gama", "1"], ["plot"]], ids=" ".join
)
def test_what_is_quick_imports_nothing_heavy(argv):
    heavy = {"jax", "numpy", "matplotlib", "gymnasium"}
    code = (
        f"import sys; from policygrad.cli.main import main; main({argv!r}); sys.exit(len({heavy} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


# Mistakes


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian"], "there is no command 'trian': did you mean train?"),
        (["evaluate"], "did you mean eval?"),
        (["xyzzy"], "choose one of train, eval, record"),
        (["--verson"], "unknown option --verson: did you mean --version?"),
        (["train", "--learning-rat", "0.1"], "unknown option --learning-rat: did you mean --learning-rate?"),
        (["train", "--learning_rate", "0.1"], "did you mean --learning-rate?"),
        (["train", "--total", "100"], "unknown option --total"),
        (["train", "CartPole-v1", "ppo"], "unexpected argument 'ppo'"),
        (["train", "--algo", "a2x"], "unknown algorithm 'a2x': did you mean 'a2c'?"),
        (["train", "--algo"], "argument --algo: expected one argument"),
        (["train", "CartPol-v1"], "Did you mean CartPole-v1"),
        (["train", "gym:CartPol-v1"], "Did you mean gym:CartPole-v1"),
        (
            ["train", "CartPole-v1", "--env-kwargs", "gravity"],
            "env_kwargs must be name=value,",
        ),
        (["train", "CartPole-v1", "--wrapper", "a:B"], "wrapper is for Gymnasium's environments"),
        (["play", "nowhere"], "there is no run nowhere"),
        (["play", "nowhere", "--episodes", "0"], "--episodes must be at least 1"),
        (["train", "--gamma", "1.5"], "gamma must be in [0, 1], not 1.5"),
        (["train", "--gamma", "none"], "'none' is not a number"),
        (["train", "--max-grad-norm", "much"], "'much' is not a number or none"),
        (["train", "--net", "64x64"], "'64x64' is not whole numbers joined by '-', such as 64-64"),
        (["train", "--net", "8.5"], "'8.5' is not whole numbers joined by '-'"),
        (["train", "--mixture", "0.5-0.5"], "'0.5-0.5' is not numbers joined by ',', such as 0.5,0.5"),
        (["train", "--clip-range", "0.1"], "clip_range does nothing here: it needs surrogate=clipped"),
        (["train", "--policy", "own"], "policy='own' is a model of your own"),
        (["train", "--n-envs", "2.5"], "'2.5' is not a whole number"),
        (["train", "--baseline", "valu"], "unknown baseline 'valu': did you mean 'value'?"),
        (["train", "--resume", "runs/x", "--gamma", "0.9"], "--gamma cannot be given with --resume"),
        (["train", "chain", "--resume", "runs/x"], "ENV cannot be given with --resume"),
        (["train", "--resume", "nowhere"], "there is no run nowhere; check the path"),
        (["train", "nothing.py:Mine"], "There is no file nothing.py"),
        (["train", "no.such:Mine"], "There is no module 'no.such'"),
        (["train", "math:pie"], "math has no 'pie'. Did you mean math:pi?"),
        (["train", "math:pi"], "math:pi is no environment"),
        (["eval"], "the following arguments are required: RUN"),
        (["train", "CartPoleX-v9"], "Did you mean CartPole-v1?"),
        (["eval", "nowhere"], "there is no run nowhere"),
        (["plot", "nowhere"], "there is no run nowhere"),
        (["list", "ppoo"], "there is no algorithm or environment 'ppoo': did you mean ppo?"),
    ],
    ids=lambda x: " ".join(x)[:40] if isinstance(x, list) else "",
)
def test_a_mistake_is_one_sentence_and_exit_code_two(cli, argv, message):
    code, _, err = cli(*argv)
    assert code == 2 and err.startswith("policygrad: error: ") and err.count("\n") == 1
    assert message in err


def test_a_traceback_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("POLICYGRAD_TRACEBACK", "1")
    with pytest.raises(ValueError, match="trian"):
        main(["trian"])


def test_an_existing_folder_is_kept(cli, runs, tmp_path):
    code, _, err = cli("train", "chain", *TINY, "--path", str(runs / "one"))
    assert code == 2 and "already exists; continue it with --resume" in err
    assert (runs / "one" / "metrics.csv").exists()


# A user's own environment

OWN = """
import jax.numpy as jnp
from gymnasium import spaces
from policygrad import Env

class Walk(Env):
    observation_space, action_space, time_limit = spaces.Box(-9, 9, (1,)), spaces.Discrete(2), 5

    def reset(self, noise):
        return jnp.zeros(()), jnp.zeros(1)

    def step(self, noise, state, action):
        state = state + jnp.where(action == 1, 1.0, -1.0)
        return state, state[None], self.pay(state), jnp.zeros((), bool)

    def pay(self, state):
        return state

class Branches(Walk):
    def pay(self, state):
        return state if state > 0 else -state

class Breaks(Walk):
    def pay(self, state):
        return jnp.where(state == 5, jnp.inf, state)

class Needs(Walk):
    def __init__(self, size): ...
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_walk.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["own_walk.py:Walk", "own_walk:Walk"])
def test_an_own_environment_is_trained_on_and_evaluated(cli, own, name):
    code, out, _ = cli("train", name, *TINY)
    assert code == 0 and f"a2c on {name}, your own, 400 steps, 1 seed" in out
    (run,) = (own / "runs").glob("own_walk*/a2c-1")
    assert json.loads((run / "recipe.json").read_text())["env"] == name
    assert cli("eval", str(run), "--episodes", "2")[0] == 0


def test_what_is_wrong_with_an_own_environment_is_said(cli, own):
    code, _, err = cli("train", "own_walk.py:Branches", *TINY)
    assert code == 2 and "cannot be traced by JAX" in err
    code, _, err = cli("train", "own_walk.py:Needs", *TINY)
    assert code == 2 and "could not be made: TypeError" in err and "size" in err
    assert not (own / "runs").exists()


def test_a_failed_run_has_exit_code_one(cli, own, monkeypatch):
    monkeypatch.setattr("policygrad.envs.checker.check_env", lambda env, steps, seed: [])
    code, _, err = cli("train", "own_walk.py:Breaks", *TINY, "--path", "run")
    assert code == 1 and "was not finite in the update after environment step" in err and "is kept in" in err


# What the verbs print


def test_train_says_what_it_made_and_what_comes_next(cli, tmp_path):
    code, out, err = cli("train", "chain", *TINY, "--out", str(tmp_path))
    lines = out.splitlines()
    assert code == 0
    about = "a row of states; walking right to the end pays 1"
    assert lines[0] == f"policygrad {pg.__version__}: a2c on chain, {about}, 400 steps, 1 seed"
    assert lines[1] == "compiling ..." and lines[2].startswith("done: 400 steps in ")
    assert f"made: {tmp_path}/chain/a2c-1" in out and f"next: policygrad eval {tmp_path}/chain/a2c-1" in out
    assert err.splitlines()[-1].startswith("400 of 400 steps, ") and "left" in err


def test_resume_raises_the_budget(cli, runs, tmp_path):
    path = str(tmp_path / "run")
    assert cli("train", "chain", *TINY, "--quiet", "--path", path) == (0, f"{path}\n", "")
    assert "is finished, after 400 steps: give a larger --total-timesteps" in cli("train", "--resume", path)[1]
    assert cli("train", "--resume", path, "--total-timesteps", "5e2", "--quiet")[0] == 0
    assert pg.load(path).env_steps.tolist() == [500]


def test_a_run_that_reached_its_reward_says_so(cli, tmp_path):
    path = str(tmp_path / "run")
    assert cli("train", "probe:constant", *TINY, "--stop-reward", "0.5", "--quiet", "--path", path)[0] == 0
    said = "is finished, after 200 steps: stop_reward 0.5 was reached (1.0); give a higher --stop-reward, or none"
    assert said in cli("train", "--resume", path)[1]
    assert said in cli("train", "--resume", path, "--total-timesteps", "500")[1]
    assert cli("train", "--resume", path, "--stop-reward", "none", "--quiet")[0] == 0
    assert pg.load(path).env_steps.tolist() == [400]


def test_lists_of_numbers_are_typed_as_the_help_says():
    given = vars(parser(PRESETS["a2c"]).parse(["--mixture", "-0.5,1.5e0", "--net", "8-16"]))
    assert given == {"mixture": (-0.5, 1.5), "net": (8, 16)}
    assert vars(parser(PRESETS["a2c"]).parse(["--log-std-init", "-1e-3"])) == {"log_std_init": -0.001}
    assert vars(parser(PRESETS["a2c"]).parse(["--measure-every", "--net", "8"]))["measure_every"] == 16
    assert vars(parser(PRESETS["a2c"]).parse(["--measure-every", "4"]))["measure_every"] == 4
    assert [shown(value) for value in ((8, 16), (-0.5, 1.5), ())] == ["8-16", "-0.5,1.5", "none"]


@pytest.mark.parametrize("verb", ["eval", "plot"])
def test_a_recipe_that_is_none_is_one_sentence(cli, tmp_path, verb):
    (tmp_path / "recipe.json").write_text("[]")
    code, _, err = cli(verb, str(tmp_path))
    assert code == 2 and "recipe.json is no JSON object" in err and err.count("\n") == 1


def test_eval_without_evaluations_plays_the_last_policy(cli, tmp_path):
    path = str(tmp_path / "run")
    never = ("--eval-every", "0", "--max-episode-steps", "6")
    assert cli("train", "CartPole-v1", *TINY, *never, "--quiet", "--path", path)[0] == 0
    out = cli("eval", path, "--episodes", "2", "--env", "gym:CartPole-v1")[1]
    assert "a2c, no evaluation: last checkpoint, 2 episodes on gym:CartPole-v1, of at most 6 steps\n" in out
    report = json.loads(cli("eval", path, "--episodes", "2", "--json")[1])
    assert report["checkpoint"] == "no evaluation: last" and report["max_episode_steps"] == 6
    assert report["greedy"]["seeds"][0]["mean_length"] == 6


def test_eval_prints_json_and_nothing_else(cli, runs):
    code, out, err = cli("eval", str(runs / "two"), "--episodes", "3", "--json", "--checkpoint", "last")
    report = json.loads(out)
    assert code == 0 and err == ""
    assert report["env"] == "chain" and report["checkpoint"] == "last"
    for mode in ("greedy", "sampled"):
        assert [row["seed"] for row in report[mode]["seeds"]] == [1, 2]
        assert {"mean", "iqm", "low", "high", "n"} == report[mode]["over_seeds"].keys()
        assert all(row["episodes"] == 3 and row["low"] <= row["mean"] <= row["high"] for row in report[mode]["seeds"])
    assert cli("eval", str(runs / "two"), "--episodes", "3", "--json", "--checkpoint", "last")[1] == out


def test_eval_prints_a_table(cli, runs):
    out = cli("eval", str(runs / "two"), "--episodes", "1")[1].splitlines()
    assert [line.split()[0] for line in out[2:]] == ["seed", "seed", "mean", "IQM"]
    assert "greedy return 95 % interval" in out[1] and "sampled return" in out[1]
    assert len(cli("eval", str(runs / "one"), "--episodes", "2")[1].splitlines()) == 3
    code, _, err = cli("eval", str(runs / "one"), "--episodes", "0")
    assert code == 2 and "episodes must be at least 1" in err


def test_plot_pools_the_seeds_of_one_recipe(cli, runs, tmp_path, monkeypatch):
    drawn = {}

    def draw(curves, out, **options):
        drawn.update(curves)
        return out

    with monkeypatch.context() as patch:
        patch.setattr("policygrad.run.plots.learning_curves", draw)
        assert cli("plot", *(str(runs / name) for name in ("one", "two", "other")))[0] == 0
    assert {label: len(seeds) for label, seeds in drawn.items()} == {"a2c gamma=0.99": 3, "a2c gamma=0.9": 1}
    code, _, err = cli("plot", str(runs / "one"), str(runs / "one"))
    assert code == 2 and "repeats seed 0" in err


@pytest.mark.parametrize("extra", [[], ["--panels", "--key", "eval/mean_reward"]])
def test_plot_draws_a_picture(cli, runs, tmp_path, extra):
    out = tmp_path / "curve.png"
    assert cli("plot", str(runs / "one"), str(runs / "two"), "--out", str(out), *extra) == (0, f"{out}\n", "")
    assert out.read_bytes().startswith(b"\x89PNG")
    code, _, err = cli("plot", str(runs / "one"), "--key", "nonsense", "--out", str(out))
    assert code == 2 and "'nonsense' was not logged; choose one of" in err


def test_list_shows_the_ladder(cli):
    out = cli("list")[1]
    assert all(f"\n{name}: " in out for name in PRESETS) and "\n  CartPole-v1 " in out
    assert cli("list", "envs")[1].startswith("Environments") and cli("list", "algorithms")[1].startswith("Algorithms")
    out = cli("list", "a2c-gae")[1]
    assert "Schulman et al. (2016)" in out and "= a2c --target lambda_return --gae-lambda 0.95" in out
    assert "forces Gymnasium" in cli("list", "CartPole-v1")[1]


def test_the_changes_that_list_shows_can_be_typed(cli, tmp_path):
    """Each algorithm out of its parent, by the options that `list` prints."""
    from policygrad.cli.list import GLUE, typed

    for preset in PRESETS.values():
        if preset.parent is not None:
            argv = [word for field, value in preset.changes.items() for word in typed(field, value).split(GLUE)]
            assert vars(parser(PRESETS[preset.parent]).parse(argv)) == preset.changes


# Signals and pipes


def start(*argv):
    """The command as a terminal starts it: with a process group of its own, which gets Ctrl-C."""
    command = [sys.executable, "-m", "policygrad", *argv]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, start_new_session=True, **pipes)


def ctrl_c(child):
    os.killpg(child.pid, signal.SIGINT)


def group(child):
    """Who is left of its process group."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [stat for pgid, stat in rows if int(pgid) == child.pid and not stat.startswith("Z")]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_run(cli, tmp_path, signum):
    path = tmp_path / "run"
    child = start("train", "chain", *TINY, "--total-timesteps", "100_000_000", "--eval-every", "0", "--path", str(path))
    assert "of 100,000,000 steps" in child.stderr.readline()
    child.send_signal(signum)
    err = child.communicate()[1]
    assert child.returncode == 128 + signum
    assert f"saved in {path}; go on with: policygrad train --resume {path}" in err and "Traceback" not in err
    done = int(pg.load(path, checkpoint="last").env_steps.min())
    assert cli("train", "--resume", str(path), "--total-timesteps", str(done + 100), "--quiet")[0] == 0
    assert pg.load(path).env_steps.tolist() == [done + 100]


HANGS = """
import os, time
import gymnasium
import numpy as np
from gymnasium import spaces

class Hangs(gymnasium.Env):
    observation_space, action_space = spaces.Box(-1, 1, (1,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.random(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 300:
            open(f"hangs-{os.getpid()}", "w").close()
            time.sleep(60)
        return self.np_random.random(1, np.float32), 0.0, False, False, {}
"""


def test_a_second_signal_ends_everything_at_once(tmp_path, monkeypatch):
    """Both workers hang in their environments, and would be waited for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hangs.py").write_text(HANGS)
    how = ("--algo", "a3c", "--n-envs", "1", "--net", "4", "--eval-every", "0", "--no-tensorboard")
    child = start("train", "hangs.py:Hangs", *how, "--path", "run", "--total-timesteps", "100_000")
    while len(list(tmp_path.glob("hangs-*"))) < 2:
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.05)
    ctrl_c(child)
    time.sleep(0.3)
    assert len(group(child)) > 2
    ctrl_c(child)
    began = time.monotonic()
    err = child.communicate(timeout=30)[1]
    assert time.monotonic() - began < 4 and child.returncode == 130
    said = [line for line in err.splitlines() if line and "steps/s" not in line]
    assert said == ["policygrad: stopped at once; what was saved before stands"]
    while group(child):
        assert time.monotonic() - began < 10, "a worker was left behind"


def test_a_second_signal_leaves_the_last_checkpoint_whole(tmp_path):
    """It comes at any time after the first: while that saves, cleans up, or says goodbye."""
    how = ("--eval-every", "0", "--total-timesteps", "100_000_000", "--path", str(tmp_path / "run"))
    child = start("train", "chain", *TINY, *how)
    assert "steps/s" in child.stderr.readline()
    ctrl_c(child)
    while child.poll() is None and not (tmp_path / "run" / "checkpoints" / "last.safetensors").exists():
        time.sleep(0.001)
    ctrl_c(child)
    err = child.communicate(timeout=30)[1]
    assert child.returncode == 130 and "Traceback" not in err and err.count("policygrad: stopped") == 1
    assert pg.load(tmp_path / "run", checkpoint="last").env_steps.min() >= 100


def test_ctrl_c_spares_the_processes_of_environments(tmp_path):
    """A terminal sends it to all of them; the run is saved as ever."""
    how = ("--vectorization", "async", "--eval-every", "0", "--total-timesteps", "100_000_000")
    child = start("train", "gym:CartPole-v1", *TINY, *how, "--n-envs", "2", "--path", str(tmp_path / "run"))
    assert "steps/s" in child.stderr.readline()
    ctrl_c(child)
    err = child.communicate(timeout=30)[1]
    assert child.returncode == 130 and "; saved in " in err and "Traceback" not in err
    assert pg.load(tmp_path / "run", checkpoint="last").env_steps.min() > 0


def test_a_signal_before_the_start_leaves_nothing(tmp_path):
    child = start("train", "chain", *TINY, "--path", str(tmp_path / "run"))
    assert child.stdout.readline().startswith("policygrad ")
    child.send_signal(signal.SIGINT)
    err = child.communicate()[1]
    assert child.returncode == 130 and err.strip() == "policygrad: stopped"
    assert not (tmp_path / "run").exists()


def test_a_closed_pipe_is_quiet():
    child = start("list")
    child.stdout.close()
    assert child.stderr.read() == "" and child.wait() == 141


def test_tuned_recipes(cli):
    code, out, _ = cli("list", "recipes")
    assert code == 0 and "Pendulum-v1 a2c-gae: 1,000,000 steps" in out and "--gae-lambda 0.95" in out
    code, _, error = cli("train", "Acrobot-v1", "--algo", "ppo", "--recipe", "tuned")
    assert code == 2 and "no tuned recipe of ppo on Acrobot-v1" in error


def test_a_signal_behind_the_last_word_changes_nothing():
    code = (
        "import os, signal\nfrom policygrad.cli.signals import stoppable\n"
        "with stoppable(last=True):\n    print('done')\n"
        "for s in (signal.SIGINT, signal.SIGTERM):\n    os.kill(os.getpid(), s)\nprint('end')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\nend\n", "")
