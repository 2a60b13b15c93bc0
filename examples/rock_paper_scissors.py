"""Rock-paper-scissors: whoever can be foreseen is exploited, and self-play finds the policy that cannot.

python examples/rock_paper_scissors.py
policygrad selfplay rps --method plain
policygrad train RockPaperScissors-v0 --algo a2c --policy tabular --env-kwargs opponent=copycat
"""

import jax
import numpy as np

import policygrad as pg
from policygrad.envs.repeated import OPPONENTS, repeated_game, rock_paper_scissors
from policygrad.games import METHODS, exploitability, matrix_game, rps, selfplay
from policygrad.measure import policy_evaluation, policy_probabilities, value_iteration

OPTIONS = {"policy": "tabular", "gamma": 1.0, "n_steps": 10, "optimizer": "adam", "learning_rate": 0.05}


def learned_response(world, total_timesteps: int) -> tuple[float, float]:
    """What a policy that sees the last round wins per round after training, and the most that can be won: exactly."""
    run = pg.train(world, "a2c", total_timesteps=total_timesteps, **OPTIONS, eval_every=0, out=None)
    probs = policy_probabilities(world, run.models[0], world.horizon)
    won = float(policy_evaluation(world, probs, 1.0)[0, 0])
    return won / world.horizon, value_iteration(world, 1.0).value[0, 0] / world.horizon


def main(steps: int = 5000, total_timesteps: int = 40_000, opponents=tuple(OPPONENTS)) -> dict[str, tuple]:
    found = {}
    print("1. iterated, against a fixed opponent:   learned     best")
    for name in opponents:
        found[name] = learned_response(rock_paper_scissors(name), total_timesteps)
        print(f"   {name:<32}{found[name][0]:>14.3f}{found[name][1]:>9.3f}   a round")

    print("2. self-play, both by gradients:        exploitable, of 2")
    game, key = rps(), jax.random.key(0)
    plays = {method: selfplay(game, method, steps=steps, key=key) for method in METHODS}
    for method, play in plays.items():
        found[method] = (play.exploitability[0], play.exploitability[-1])
        print(f"   {method:<32}{found[method][0]:>14.3f} → {found[method][1]:.6f}")

    print("3. what self-play came to, exploited by a learner that remembers the last round:")
    for method in ("plain", "entropy"):
        frozen = repeated_game(game.payoffs[0], plays[method].column[-1])
        won, best = found[f"{method}, exploited"] = learned_response(frozen, total_timesteps)
        print(f"   {method:<32}{won:>14.3f}{best:>9.3f}   a round")

    own = matrix_game([[0, -1, 3], [1, 0, -1], [-3, 1, 0]], name="own")
    play = selfplay(own, steps=steps, key=key)
    even = np.full(3, 1 / 3)
    print(f"4. rock over scissors pays 3: {play.row[-1].round(3)}, exploitable by {play.exploitability[-1]:.6f}")
    print(f"   (the uniform policy, by {exploitability(own, even, even):.3f})")
    return found


if __name__ == "__main__":
    main()
