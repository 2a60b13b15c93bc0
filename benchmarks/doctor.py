"""Does the doctor cry wolf? Healthy runs, and the share of them with which `policygrad doctor` finds fault.

    python benchmarks/doctor.py             # the runs that are missing, then the table
    python benchmarks/doctor.py --table     # the table alone, as Markdown
    python benchmarks/doctor.py --cost      # what --measure-every costs: rows of results/measure_every.json

Every run has a recipe that is known to learn (those of :mod:`policygrad.run.tuned`, and the probes), on seeds on which
no threshold was chosen. The seeds of a row train together. A row of results/doctor.json is one (environment, algorithm,
seed, thresholds), written as soon as it is known.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

from common import RESULTS, parser, progress, stamp
from ledger import Ledger, Row, markdown

from policygrad.run.devices import spare_threads
from policygrad.run.recipes import Recipe, make_recipe
from policygrad.run.tuned import tuned

COST = Ledger(RESULTS / "measure_every.json", key=("algo", "seeds"))
LEDGER = Ledger(RESULTS / "doctor.json", key=("env", "algo", "seed", "limits"))
FIRST, SEEDS = 100, 4
PROBE = {"total_timesteps": 40_000, "learning_rate": 2e-3}
HEALTHY: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *(
        ("CartPole-v1", algo, {})
        for algo in ("reinforce-togo", "reinforce-mean", "reinforce-optimal", "reinforce-value")
    ),
    *(("CartPole-v1", algo, {}) for algo in ("actor-critic", "a2c", "a2c-gae", "ppo")),
    *(("Acrobot-v1", algo, {}) for algo in ("a2c", "a2c-gae")),
    *(("Pendulum-v1", algo, {}) for algo in ("a2c", "a2c-gae")),
    ("probe:action", "a2c", PROBE),
    ("probe:observation-action", "a2c", PROBE),
)
"""Environment, algorithm, and what to change where nobody tuned it."""


def recipe_of(env: str, algo: str, changes: dict[str, Any], first: int, seeds: int) -> Recipe:
    """As it is tuned; no evaluations, which teach the doctor nothing."""
    make = make_recipe if changes else tuned
    return make(algo, env, **changes, seed=first, seeds=seeds, eval_every=0)


def limits() -> str:
    """The thresholds' fingerprint: changed ones are judged anew."""
    from policygrad.measure.doctor import LIMITS

    numbers = json.dumps({name: limit.value for name, limit in LIMITS.items()}, sort_keys=True)
    return hashlib.sha256(numbers.encode()).hexdigest()[:8]


def rows_of(recipe: Recipe) -> Iterator[Row]:
    """Train these seeds, and ask the doctor about each."""
    import policygrad as pg
    from policygrad.measure.doctor import diagnose, randomness_of

    began = time.monotonic()
    run = pg.train(recipe.env, recipe, out=None, tensorboard=False)
    seconds = time.monotonic() - began
    randomness = randomness_of(run.env.action_space, recipe.to_dict())
    for i in range(recipe.seeds):
        mine = {name: column[:, i : i + 1] for name, column in run.history.items()}
        found = diagnose(mine, recipe.to_dict(), randomness=randomness)
        row = {"env": recipe.env, "algo": recipe.algo, "seed": recipe.seed + i, "limits": limits()}
        yield row | {"verdicts": [v.name for v in found], "words": str(found[0]), "seconds": seconds / recipe.seeds}


def run_missing() -> None:
    for env, algo, changes in HEALTHY:
        recipe = recipe_of(env, algo, changes, FIRST, SEEDS)
        wanted = [{"env": env, "algo": algo, "seed": seed, "limits": limits()} for seed in range(FIRST, FIRST + SEEDS)]
        if not LEDGER.missing(wanted):
            continue
        progress(f"{env} {algo}, seeds {FIRST} to {FIRST + SEEDS - 1}")
        spare_threads(recipe)
        LEDGER.add([row | stamp() for row in rows_of(recipe)])


def table() -> str:
    """One row per environment and algorithm; only what was judged by today's thresholds."""
    cells = []
    for env, algo, _ in HEALTHY:
        rows = LEDGER.select(env=env, algo=algo, limits=limits())
        wrong = [row for row in rows if row["verdicts"] != ["healthy"]]
        named = ", ".join(f"seed {row['seed']}: {row['verdicts'][0]}" for row in wrong)
        cells.append((env, algo, len(rows) or None, len(wrong) if rows else None, named))
    known = [cell for cell in cells if cell[2] is not None]
    total = ("all", "", sum(cell[2] for cell in known), sum(cell[3] for cell in known), "")
    return markdown(("environment", "algorithm", "n", "false alarms", ""), [*cells, total])


def cost_row(algo: str, seeds: int, steps: int = 50_000, rounds: int = 7) -> Row:
    """Processor seconds of the same CartPole training without measuring, and the share that it takes more with a
    measurement at every update, every eighth, every sixteenth: the best of some rounds, in turns."""
    import jax.numpy as jnp
    import numpy as np

    from policygrad.run import api

    began = {
        k: api.begin("CartPole-v1", algo, out=None, seeds=seeds, eval_every=0, measure_every=k) for k in (0, 1, 8, 16)
    }
    warm = {k: run.program.advance(run.state, jnp.int32(2_000))[0] for k, run in began.items()}
    best = dict.fromkeys(began, float("inf"))
    for _ in range(rounds):
        for k, run in began.items():
            start = time.process_time()
            np.asarray(run.program.advance(warm[k], jnp.int32(steps))[0].env_steps)
            best[k] = min(best[k], time.process_time() - start)
    more = {f"every_{k}": round(best[k] / best[0] - 1, 3) for k in (1, 8, 16)}
    return {"algo": algo, "seeds": seeds, "seconds": best[0], **more}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--table", action="store_true", help="print the table, and run nothing")
    options.add_argument("--cost", action="store_true", help="measure what --measure-every costs instead")
    args = options.parse_args()
    if args.cost:
        for algo, seeds in (("a2c", 1), ("a2c", 4)):
            COST.add([cost_row(algo, seeds) | stamp(args.date)])
            progress(str(COST.select(algo=algo, seeds=seeds)))
        return
    if not args.table:
        run_missing()
    print(table())


if __name__ == "__main__":
    main()
