"""Stable-Baselines3: how fast it trains, and how soon a policy that solves CartPole-v1 is saved.

Run it with the packages of ``requirements-sb3.txt``:

    python sb3.py --algo a2c                   # environment steps per second of the training loop
    python sb3.py --algo a2c --env ALE/Breakout-v5 --n-envs 16
    python sb3.py --algo ppo --until-solved    # seconds from the start of the process to a saved policy

Stable-Baselines3 prints its tables as a user sees them (``verbose=1``), but to standard error. Standard output gets one
JSON line.
"""

import argparse
import contextlib
import json
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()  # before torch is imported: a user waits for that too
NET = [64, 64]
SOLVED = 475.0


def main() -> None:
    args = parse_args()
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    with contextlib.redirect_stdout(sys.stderr):
        measured = until_solved(args) if args.until_solved else training_speed(args)
    print(json.dumps(settings(args) | measured))


def training_speed(args: argparse.Namespace) -> dict[str, Any]:
    """Environment steps per second of ``learn``, logging included, after a short ``learn`` that warms everything up."""
    window = args.n_envs * args.n_steps
    hyper = {"n_epochs": 4, "batch_size": window // 4} if args.algo == "ppo" else {}
    model = make_model(args, hyper)
    model.learn(args.warmup)
    steps_before, start = model.num_timesteps, time.perf_counter()
    model.learn(args.timesteps, reset_num_timesteps=False)
    seconds = time.perf_counter() - start
    timesteps = model.num_timesteps - steps_before
    return hyper | {"timesteps": timesteps, "seconds": seconds, "steps_per_second": timesteps / seconds}


def until_solved(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds from the start of the process until a policy is saved whose mean evaluation return reached 475.

    The clock starts at this script's first statements: Python's own start is not counted. The evaluation that stops the
    training was picked for being high, so the same policy's mean over 100 fresh episodes is reported beside it.
    """
    from stable_baselines3.common.callbacks import EvalCallback, StopTrainingOnRewardThreshold
    from stable_baselines3.common.evaluation import evaluate_policy

    hyper = zoo_settings(args.algo)
    with tempfile.TemporaryDirectory() as folder:
        evaluate = EvalCallback(
            make_envs(args, args.eval_envs, args.seed + 1000),
            callback_on_new_best=StopTrainingOnRewardThreshold(SOLVED),
            n_eval_episodes=args.eval_episodes,
            eval_freq=max(args.eval_freq // args.n_envs, 1),
            best_model_save_path=folder,
        )
        model = make_model(args, hyper)
        model.learn(args.timesteps, callback=evaluate)
        seconds = time.perf_counter() - STARTED
        solved = evaluate.best_mean_reward >= SOLVED and (Path(folder) / "best_model.zip").exists()
    fresh_return, _ = evaluate_policy(model, make_envs(args, args.n_envs, args.seed + 2000), n_eval_episodes=100)
    return {
        "solved": solved,
        "seconds": seconds,
        "timesteps": model.num_timesteps,
        "eval_freq": args.eval_freq,
        "eval_episodes": args.eval_episodes,
        "eval_envs": args.eval_envs,
        "eval_return": evaluate.best_mean_reward,
        "fresh_return": float(fresh_return),
    }


def make_model(args: argparse.Namespace, hyper: dict[str, Any]) -> Any:
    """A2C or PPO on the CPU. Separate 64-64 tanh networks for actor and critic (the default of ``MlpPolicy``), or, for
    Atari, the Nature CNN with two heads (the default of ``CnnPolicy``)."""
    from stable_baselines3 import A2C, PPO

    algorithm = {"a2c": A2C, "ppo": PPO}[args.algo]
    return algorithm(
        "CnnPolicy" if is_atari(args.env) else "MlpPolicy",
        make_envs(args, args.n_envs, args.seed),
        n_steps=args.n_steps,
        policy_kwargs={} if is_atari(args.env) else {"net_arch": NET},
        verbose=1,
        seed=args.seed,
        device="cpu",
        **hyper,
    )


def make_envs(args: argparse.Namespace, n_envs: int, seed: int) -> Any:
    from stable_baselines3.common.env_util import make_atari_env, make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack

    vec = {"dummy": DummyVecEnv, "subproc": SubprocVecEnv}[args.vec]
    if not is_atari(args.env):
        return make_vec_env(args.env, n_envs, seed=seed, vec_env_cls=vec)
    import ale_py
    import gymnasium

    gymnasium.register_envs(ale_py)
    # the wrappers of make_atari_env skip frames: the game itself must not
    game = {"frameskip": 1, "repeat_action_probability": 0.0}
    return VecFrameStack(make_atari_env(args.env, n_envs, seed=seed, env_kwargs=game, vec_env_cls=vec), n_stack=4)


def is_atari(env: str) -> bool:
    return env.startswith("ALE/")


def zoo_settings(algo: str) -> dict[str, Any]:
    """The RL Baselines3 Zoo's hyper-parameters for CartPole-v1 (``hyperparams/a2c.yml`` and ``ppo.yml``)."""
    from stable_baselines3.common.utils import LinearSchedule

    if algo == "a2c":
        return {"ent_coef": 0.0}
    return {
        "batch_size": 256,
        "gae_lambda": 0.8,
        "gamma": 0.98,
        "n_epochs": 20,
        "ent_coef": 0.0,
        "learning_rate": LinearSchedule(0.001, 0.0, 1.0),
        "clip_range": LinearSchedule(0.2, 0.0, 1.0),
    }


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What a reader needs to repeat the row."""
    return {
        "peer": "stable-baselines3",
        "version": version("stable-baselines3"),
        "algo": args.algo,
        "mode": "until-solved" if args.until_solved else "speed",
        "env": args.env,
        "net": "nature" if is_atari(args.env) else NET,
        "n_envs": args.n_envs,
        "n_steps": args.n_steps,
        "vec": args.vec,
        "threads": args.threads,
        "seed": args.seed,
        "python": platform.python_version(),
        "torch": version("torch"),
        "gymnasium": version("gymnasium"),
        "numpy": version("numpy"),
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--algo", choices=["a2c", "ppo"], default="a2c")
    add("--env", default="CartPole-v1")
    add("--n-envs", type=int, help="a2c: 8; ppo: 4, or the Zoo's 8 with --until-solved")
    add("--n-steps", type=int, help="a2c: 5; ppo: 128, or the Zoo's 32 with --until-solved")
    add("--timesteps", type=int, help="40 000; with --until-solved at most the Zoo's 500 000 (a2c) or 100 000 (ppo)")
    add("--warmup", type=int, default=2_000, help="steps trained before the clock starts (speed only)")
    add("--threads", type=int, default=1, help="torch's threads; 0: its own choice")
    add(
        "--vec", choices=["dummy", "subproc"], default="dummy", help="environments in this process, or one process each"
    )
    add("--seed", type=int, default=0)
    add("--until-solved", action="store_true")
    add("--eval-freq", type=int, default=5_000, help="steps between evaluations (--until-solved only)")
    add("--eval-episodes", type=int, default=10, help="episodes of one evaluation (--until-solved only)")
    add("--eval-envs", type=int, default=10, help="environments that play them side by side (--until-solved only)")
    args = parser.parse_args()
    if find_spec("stable_baselines3") is None:
        parser.error("stable-baselines3 is not installed here: run setup.sh, then use .peers/sb3/bin/python")
    for name, default in defaults(args.algo, args.until_solved).items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    return args


def defaults(algo: str, until_solved: bool) -> dict[str, int]:
    """The sizes of a run that the command line leaves open."""
    if algo == "a2c":
        return {"n_envs": 8, "n_steps": 5, "timesteps": 500_000 if until_solved else 40_000}
    if until_solved:
        return {"n_envs": 8, "n_steps": 32, "timesteps": 100_000}
    return {"n_envs": 4, "n_steps": 128, "timesteps": 40_000}


if __name__ == "__main__":
    main()
