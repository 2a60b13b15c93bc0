"""RLlib: how fast IMPALA and APPO train CartPole-v1 on one machine.

Run it with the packages of ``requirements-rllib.txt``:

    python rllib.py --algo impala                       # environment steps per second of the training loop
    python rllib.py --algo appo --n-envs 8 --seconds 30

Standard output gets one JSON line.
"""

import argparse
import json
import logging
import os
import platform
import time
from importlib.metadata import version
from typing import Any

NET = [64, 64]
PACKAGES = ("ray", "torch", "gymnasium", "numpy")


def main() -> None:
    args = parse_args()
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    import ray

    ray.init(num_cpus=args.runners + 6, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        measured = training_speed(args)
    finally:
        ray.shutdown()
    print(json.dumps(vars(args) | {"net": NET} | measured | {"versions": versions()}))


def training_speed(args: argparse.Namespace) -> dict[str, Any]:
    """Environment steps per second of ``train``, after it has run for ``warmup`` seconds and its actors have begun."""
    algorithm = make(args)
    steps = repeat(algorithm, args.warmup)
    while not steps:
        steps = repeat(algorithm, 0)
    begun = time.perf_counter()
    after = repeat(algorithm, args.seconds)
    seconds = time.perf_counter() - begun
    algorithm.stop()
    return {"timesteps": after - steps, "timed": seconds, "steps_per_second": (after - steps) / seconds}


def repeat(algorithm: Any, seconds: float) -> int:
    """Train for so long; the environment steps since the beginning."""
    begun = time.perf_counter()
    while True:
        steps = int(algorithm.train()["num_env_steps_sampled_lifetime"])
        if time.perf_counter() - begun >= seconds:
            return steps


def make(args: argparse.Namespace) -> Any:
    """Its defaults, but for the network and for who steps how many environments."""
    from ray.rllib.algorithms.appo import APPOConfig
    from ray.rllib.algorithms.impala import IMPALAConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    config = IMPALAConfig() if args.algo == "impala" else APPOConfig()
    config = config.environment("CartPole-v1").debugging(seed=args.seed, log_level="ERROR")
    config = config.env_runners(num_env_runners=args.runners, num_envs_per_env_runner=args.n_envs)
    network = DefaultModelConfig(fcnet_hiddens=NET, fcnet_activation="tanh", vf_share_layers=False)
    return config.rl_module(model_config=network).build_algo()


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def parse_args() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--algo", choices=("impala", "appo"), default="impala")
    made.add_argument("--runners", type=int, default=2, help="actors that step environments (default: 2)")
    made.add_argument("--n-envs", type=int, default=1, help="environments of each (default: 1, as RLlib's)")
    made.add_argument("--warmup", type=float, default=10.0, help="seconds before the clock starts (default: 10)")
    made.add_argument("--seconds", type=float, default=20.0, help="seconds of training that are timed (default: 20)")
    made.add_argument("--seed", type=int, default=0)
    return made.parse_args()


if __name__ == "__main__":
    main()
