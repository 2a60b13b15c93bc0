"""rejax's PPO on gymnax's CartPole-v1: environment steps per second, many seeds in one compiled program.

Run it with the packages of ``requirements-rejax.txt``:

    python rejax_ppo.py               # one seed
    python rejax_ppo.py --seeds 16    # sixteen runs under one vmap; the rate is the total over the seeds

The program is compiled first, the clock then sees the training alone. One JSON line goes to standard output.
"""

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

ENV = "CartPole-v1"
NET = (64, 64)
PPO_SETTINGS = {
    "num_envs": 4,
    "num_steps": 128,
    "num_epochs": 4,
    "num_minibatches": 4,
    "learning_rate": 2.5e-4,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_eps": 0.2,
    "ent_coef": 0.01,
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
}


def main() -> None:
    args = parse_args()
    if args.threads:
        os.environ["PJRT_NPROC"] = str(args.threads)  # read once, when XLA makes its thread pool
    print(json.dumps(settings(args) | training_speed(args)))


def training_speed(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds to compile, and environment steps per second of the compiled run."""
    import jax
    import numpy as np

    train = jax.jit(jax.vmap(make_algorithm(args.timesteps).train))
    keys = jax.random.split(jax.random.PRNGKey(args.seed), args.seeds)
    start = time.perf_counter()
    compiled = train.lower(keys).compile()
    compile_seconds = time.perf_counter() - start

    start = time.perf_counter()
    state, _ = jax.block_until_ready(compiled(keys))
    seconds = time.perf_counter() - start
    timesteps = int(np.asarray(state.global_step).sum(dtype=np.int64))
    return {
        "timesteps": timesteps,
        "compile_seconds": compile_seconds,
        "seconds": seconds,
        "steps_per_second": timesteps / seconds,
    }


def make_algorithm(timesteps: int) -> Any:
    """PPO with separate 64-64 tanh networks for actor and critic. Its evaluation callback does nothing."""
    from rejax import PPO

    algorithm = PPO.create(
        env=ENV,
        total_timesteps=timesteps,
        eval_freq=timesteps,
        skip_initial_evaluation=True,
        agent_kwargs={"hidden_layer_sizes": NET, "activation": "tanh"},
        **PPO_SETTINGS,
    )
    return algorithm.replace(eval_callback=lambda algorithm, state, key: ())


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What a reader needs to repeat the row."""
    return {
        "peer": "rejax",
        "version": version("rejax"),
        "algo": "ppo",
        "mode": "speed",
        "env": ENV,
        "net": NET,
        "n_envs": PPO_SETTINGS["num_envs"],
        "n_steps": PPO_SETTINGS["num_steps"],
        "n_epochs": PPO_SETTINGS["num_epochs"],
        "n_minibatches": PPO_SETTINGS["num_minibatches"],
        "seeds": args.seeds,
        "threads": args.threads or os.cpu_count(),
        "seed": args.seed,
        "python": platform.python_version(),
        "jax": version("jax"),
        "flax": version("flax"),
        "gymnax": version("gymnax"),
        "numpy": version("numpy"),
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--seeds", type=int, default=1, help="runs under one vmap")
    add("--timesteps", type=int, default=256_000, help="steps of each run, rounded up to whole windows of 512")
    add("--threads", type=int, default=0, help="XLA's threads; 0: one for each core")
    add("--seed", type=int, default=0)
    args = parser.parse_args()
    if find_spec("rejax") is None:
        parser.error("rejax is not installed here: run setup.sh, then use .peers/rejax/bin/python")
    return args


if __name__ == "__main__":
    main()
