"""Train a policy on the fast twin of CartPole, then play it on the real Gymnasium.

python examples/quickstart.py
"""

import policygrad as pg


def main(total_timesteps: int = 300_000, episodes: int = 20) -> float:
    run = pg.train("CartPole-v1", "a2c", total_timesteps=total_timesteps, out=None)
    print(run)
    print(f"best greedy return in training: {run.best_reward[0]:.0f}")

    played = pg.evaluate(run.policy, "gym:CartPole-v1", episodes=episodes)
    low, high = played.interval
    print(f"on Gymnasium's own CartPole-v1: {played.mean:.0f}, 95 % interval {low:.0f} to {high:.0f}")

    action, _ = run.policy.predict([0.0, 0.0, 0.1, 0.0])
    print(f"the pole leans to the right: push {'left' if action == 0 else 'right'}")
    return played.mean


if __name__ == "__main__":
    main()
