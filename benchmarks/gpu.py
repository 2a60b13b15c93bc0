"""How fast the compiled update is on whatever device JAX has: A2C and PPO on CartPole-v1, from 8 streams to 16 384.

    python benchmarks/gpu.py --out gpu.json
    PYTHONPATH=src python benchmarks/gpu.py --sizes 1024x16 4096x32     # without installing policygrad

Collecting and learning run inside XLA and nothing is logged: this is the device's rate, not that of a run (see
throughput.py). Wheels needed: jax (with the plugin of the device), equinox, optax, jaxtyping, numpy, and gymnasium, of
which only the spaces are imported. Not needed: safetensors, matplotlib, tensorboardX, tqdm.

The rate is the best of ``--repeat`` calls, each long enough to fill ``--seconds``; compiling is timed apart. Standard
output gets a table and then one JSON object.
"""

import argparse
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

SIZES = ((8, 5), (64, 16), (1024, 16), (4096, 32), (16384, 32))
ALGOS = ("a2c", "ppo")
MAX_STEPS = 2**30
"""Steps of one call: a run counts them in 32 bits."""


def main() -> None:
    args = parse_args()
    result = {**where(), "rows": [measure(algo, size, args) for algo in args.algos for size in args.sizes]}
    print(table(result), json.dumps(result), sep="\n\n")
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measure(algo: str, size: tuple[int, int], args: argparse.Namespace) -> dict[str, Any]:
    """Environment steps per second of one size, collected and learned from."""
    import jax

    from policygrad.envs.control import CartPole
    from policygrad.run.program import make_program
    from policygrad.run.recipes import make_recipe

    n_envs, n_steps = size
    window = n_envs * n_steps
    recipe = make_recipe(algo, "CartPole-v1", n_envs=n_envs, n_steps=n_steps, total_timesteps=MAX_STEPS)
    program = make_program(recipe, CartPole())
    start = time.perf_counter()
    state = program.init(jax.random.key(0))
    jax.block_until_ready(program.advance(state, window))
    compile_seconds = time.perf_counter() - start

    def seconds_of(updates: int) -> float:
        start = time.perf_counter()
        jax.block_until_ready(program.advance(state, updates * window))
        return time.perf_counter() - start

    updates = 1
    while seconds_of(updates) < args.seconds and 2 * updates * window <= MAX_STEPS:
        updates *= 2
    seconds = min(seconds_of(updates) for _ in range(args.repeat))
    rate = updates * window / seconds
    return {
        "algo": algo,
        "n_envs": n_envs,
        "n_steps": n_steps,
        "updates": updates,
        "seconds": seconds,
        "steps_per_second": rate,
        "microseconds_per_update": 1e6 * seconds / updates,
        "compile_seconds": compile_seconds,
    }


def where() -> dict[str, Any]:
    """The device and the versions."""
    import jax

    device = jax.devices()[0]
    packages = ("jax", "jaxlib", "equinox", "numpy")
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def table(result: dict[str, Any]) -> str:
    head = f"{result['device']} ({result['platform']}), jax {result['jax']}"
    columns = f"{'algo':<5} {'envs × steps':>12} {'steps/s':>14} {'µs an update':>13} {'compile s':>10}"
    rows = [
        f"{row['algo']:<5} {row['n_envs']:>7} × {row['n_steps']:<2} {row['steps_per_second']:>14,.0f} "
        f"{row['microseconds_per_update']:>13,.0f} {row['compile_seconds']:>10.1f}"
        for row in result["rows"]
    ]
    return "\n".join([head, columns, *rows])


def size_of(text: str) -> tuple[int, int]:
    try:
        n_envs, n_steps = map(int, text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write envs x steps, such as 64x16") from None
    return n_envs, n_steps


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--algos", nargs="+", choices=ALGOS, default=list(ALGOS), help="default: both")
    add("--sizes", nargs="+", type=size_of, default=list(SIZES), metavar="ENVSxSTEPS", help="default: 8x5 to 16384x32")
    add("--seconds", type=float, default=2.0, help="at least so long is one call (default: 2)")
    add("--repeat", type=int, default=3, help="calls, of which the quickest counts (default: 3)")
    add("--out", type=Path, metavar="FILE", help="write the JSON object here as well")
    return parser.parse_args()


if __name__ == "__main__":
    main()
