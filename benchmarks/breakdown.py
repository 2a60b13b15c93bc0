"""Where the time of one update goes: collect, weigh, grad, apply, and the rest.

    python benchmarks/breakdown.py --algo a2c --n-envs 8 --n-steps 5

Each part runs alone in a compiled loop on a real window of CartPole-v1; an update of the whole program is timed beside
them. What runs once per minibatch is counted so often. "rest" is the whole minus the parts: shuffling, statistics,
bookkeeping. It may be negative, where XLA fuses what was timed apart. One JSON line goes to standard output.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from common import add_training, set_threads


def main() -> None:
    args = parse_args()
    set_threads(args)
    print(json.dumps(vars(args) | breakdown(args)))


def breakdown(args: argparse.Namespace) -> dict[str, Any]:
    """Microseconds of each part per update."""
    import jax

    from policygrad.learn.learner import minibatches
    from policygrad.random import standard, unrolled

    recipe, program = made(args)
    learner, collector = program.learner, program.collector
    window, gradients = recipe.n_envs * recipe.n_steps, recipe.n_epochs * recipe.n_minibatches

    def collect(loop: tuple) -> tuple:
        learned, collected, key = after(loop[3:], loop[:3])
        key, use = jax.random.split(unrolled(key))
        collected, trajectory, finished = collector.collect(learner.model(learned), collected, use)
        return learned, collected, standard(key), trajectory, finished

    def weigh(loop: tuple) -> tuple:
        learned, trajectory = after(loop[2], loop[:2])
        return learned, trajectory, learner.weigh(learned, trajectory)

    def grad(loop: tuple) -> tuple:
        learned, batch = after(loop[2:], loop[:2])
        return learned, batch, *learner.grad(learned, batch, jax.random.key(0))

    def apply(loop: tuple) -> tuple:
        learned, grads = after(loop[0].gradient_steps, loop)
        return learner.apply(learned, grads), grads

    @jax.jit
    def example(state: Any) -> tuple:
        """What the loops begin with: a window, its batch, one minibatch and a gradient."""
        learned, key = state.learner, jax.random.key(1)
        collected, trajectory, finished = collector.collect(learner.model(learned), state.collector, key)
        whole = part = learner.weigh(learned, trajectory)
        if gradients > 1:
            part = jax.tree.map(lambda x: x[0], minibatches(whole, recipe.n_minibatches, recipe.per == "step", key))
        return (learned, collected, key, trajectory, finished), whole, part, learner.grad(learned, part, key)

    state, _ = program.advance(program.init(jax.random.key(0)), window)
    played, whole, part, (grads, metrics) = example(state)
    learned, trajectory = state.learner, played[3]
    micro = {
        "collect": microseconds(collect, played, args),
        "weigh": microseconds(weigh, (learned, trajectory, whole), args),
        "grad": gradients * microseconds(grad, (learned, part, grads, metrics), args),
        "apply": gradients * microseconds(apply, (learned, grads), args),
    }
    update = whole_update(program, state, window, args)
    micro["rest"] = update - sum(micro.values())
    return {"microseconds": micro, "update": update, "window": window, "gradients": gradients}


def made(args: argparse.Namespace) -> tuple[Any, Any]:
    """The recipe and its program."""
    from policygrad.envs import registry
    from policygrad.run.api import enable_compilation_cache
    from policygrad.run.program import make_program
    from policygrad.run.recipes import make_recipe

    enable_compilation_cache()
    sizes = {name: value for name in ("n_envs", "n_steps") if (value := getattr(args, name)) is not None}
    recipe = make_recipe(args.algo, "CartPole-v1", **sizes)
    return recipe, make_program(recipe, registry.make(recipe.env))


def after(done: Any, inputs: Any) -> Any:
    """The inputs, unchanged, but not to be had before ``done``: XLA must not move the work out of the loop."""
    import jax

    return jax.lax.optimization_barrier((done, inputs))[1]


def microseconds(part: Callable[[Any], Any], start: Any, args: argparse.Namespace) -> float:
    """Microseconds of one pass of ``part`` in a compiled loop: the best of ``--repeat``."""
    import jax

    loop = jax.jit(lambda start, n: jax.lax.fori_loop(0, n, lambda _, loop: part(loop), start))
    jax.block_until_ready(loop(start, 1))
    return 1e6 * best(lambda: loop(start, args.iterations), args.repeat) / args.iterations


def whole_update(program: Any, state: Any, window: int, args: argparse.Namespace) -> float:
    """Microseconds of one update of the program itself."""
    until = window * (1 + args.iterations)
    return 1e6 * best(lambda: program.advance(state, until), args.repeat) / args.iterations


def best(call: Callable[[], Any], repeat: int) -> float:
    """Seconds of the quickest call."""
    import jax

    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training(parser)
    add = parser.add_argument
    add("--iterations", type=int, default=2_000, help="passes of a loop")
    add("--repeat", type=int, default=3, help="loops, of which the quickest counts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
