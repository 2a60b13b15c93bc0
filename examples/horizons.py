"""Episodes, diversity, horizons: five small worlds, trained and judged exactly.

python examples/horizons.py
policygrad train orchard --algo reinforce-mean --policy tabular --time-to-go
"""

import numpy as np

import policygrad as pg
from policygrad.envs.lessons import apprentice, climb, ledge, near_far, orchard
from policygrad.measure import objective, policy_evaluation, policy_probabilities, value_iteration

COMMON = {"policy": "tabular", "optimizer": "sgd", "max_grad_norm": None, "eval_every": 0, "out": None}


def returns(world, judge, algo: str, **options) -> np.ndarray:
    """Train on ``world``; the exact undiscounted returns on ``judge``, one for each seed."""
    run = pg.train(world, algo, **COMMON, gamma=1.0, **options)
    return np.array([float(objective(judge, model)) for model in run.models])


def resets(steps):
    """16 steps up, a wrong one leads back: the return from the foot, at most 1."""
    for name, good in (("always from the foot", 0.0), ("half of them on the way", 0.5)):
        world, options = climb(16, good, time_limit=32), {"n_envs": 16, "learning_rate": 1.0}
        yield name, returns(world, climb(16, time_limit=32), "reinforce-togo", **options, **steps(150_000))[0]


def diversity(steps):
    """1 at once, or 50 behind it: the share of 8 seeds that find the 50."""
    world = near_far(time_limit=10)
    for name, n_envs, ent_coef in (("1 worker", 1, 0.0), ("16 workers", 16, 0.0), ("1 worker, entropy bonus", 1, 0.6)):
        options = {"n_envs": n_envs, "ent_coef": ent_coef, "learning_rate": 0.2, "seeds": 8}
        yield name, np.mean(returns(world, world, "reinforce-togo", **options, **steps(3000 * n_envs)) > 25)


def time_to_go(steps):
    """Pick each year, fell the tree once: the return of ten years, at most 17."""
    for name, sees in (("does not see the time", False), ("sees T − t", True)):
        options = {"n_envs": 32, "learning_rate": 0.05, "time_to_go": sees}
        yield name, returns(orchard(), orchard(), "reinforce-mean", **options, **steps(300_000))[0]


def no_end(steps):
    """Learn for three steps, then earn double: the worth without an end, at most 34.29, and 20 by odd jobs."""
    options = {"n_envs": 16, "n_steps": 5, "learning_rate": 0.02, "vf_coef": 20.0, "gamma": 0.95}
    for name, limit in (("cut after 5 steps, V goes on", "time_limit"), ("the cut as an end", "horizon")):
        run = pg.train(apprentice(**{limit: 5}), "a2c", **COMMON, **options, **steps(200_000))
        probs = policy_probabilities(apprentice(), run.models[0], 1)[0]
        yield name, policy_evaluation(apprentice(), probs, 0.95)[0]


def ledges(steps):
    """Paid 1 now, may fall later: the return of the policy that is best for γ. Nothing is learned here."""
    for gamma in (0.5, 0.85, 0.9, 1.0):
        yield f"γ = {gamma}", policy_evaluation(ledge(), value_iteration(ledge(), gamma).policy, 1.0)[0]


def main(scale: float = 1.0, lessons=(resets, diversity, time_to_go, no_end, ledges)) -> dict[str, float]:
    """The lessons, with ``scale`` times the usual budget."""
    found: dict[str, float] = {}
    for lesson in lessons:
        print(lesson.__doc__)
        for name, number in lesson(lambda n: {"total_timesteps": max(int(n * scale), 1)}):
            found[name] = float(number)
            print(f"    {name:<34}{found[name]:8.2f}")
    return found


if __name__ == "__main__":
    main()
