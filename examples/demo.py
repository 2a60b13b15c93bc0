"""`make demo`: train a policy, try it on the real Gymnasium, then climb the ladder and draw every rung.

Everything lands in runs/. Change a number, run it again.
"""

import time
from pathlib import Path

import policygrad as pg
from policygrad.run.plots import learning_curves

LADDER = {
    "REINFORCE": ("reinforce", {}),
    "+ reward-to-go": ("reinforce-togo", {}),
    "+ baseline": ("reinforce-mean", {}),
    "+ critic, GAE": ("a2c-gae", {"optimizer": "adam", "learning_rate": 3e-3, "lr_schedule": "linear"}),
}


def main(
    a2c_steps: int = 500_000, ladder_steps: int = 80_000, seeds: int = 8, out: str | Path = "runs", rungs: dict = LADDER
) -> None:
    start = time.perf_counter()
    print(f"1. a2c on CartPole-v1, {a2c_steps:,} steps", flush=True)
    run = pg.train("CartPole-v1", "a2c", total_timesteps=a2c_steps, out=out)
    real = pg.evaluate(run.policy, "gym:CartPole-v1", episodes=100)
    low, high = real.interval
    print(
        f"   real Gymnasium, 100 episodes, greedy: {real.mean:.1f} (95 % interval {low:.1f} to {high:.1f})", flush=True
    )

    print(f"2. the ladder, {seeds} seeds each, {ladder_steps:,} steps a seed, episodes of at most 200", flush=True)
    common = {"seeds": seeds, "total_timesteps": ladder_steps, "max_episode_steps": 200}
    common |= {"eval_every": 0, "tensorboard": False, "out": out}
    curves = {}
    for name, (algo, changes) in rungs.items():
        rung = pg.train("CartPole-v1", algo, **common, **changes)
        curves[name] = rung.curves()
        last = [values[-5:].mean() for _, values in curves[name]]
        print(
            f"   {name:<16} return at the end {sum(last) / seeds:6.1f}   ({time.perf_counter() - start:.0f} s)",
            flush=True,
        )

    picture = Path(out) / "ladder.png"
    learning_curves(
        curves, picture, title="The ladder on CartPole-v1, episodes of at most 200 steps", small_multiples=True
    )
    print(f"""
Made in {time.perf_counter() - start:.0f} s:
   {picture}   every rung's learning curves, {seeds} seeds, mean and each
   {run.path}   the policy, its curve, its numbers
Try next:
   .venv/bin/policygrad eval {run.path} --env gym:CartPole-v1
   .venv/bin/policygrad train Pendulum-v1 --algo ppo
   .venv/bin/policygrad list
   docs/README.md   the ladder, rung by rung, with proofs and figures""")


if __name__ == "__main__":
    main()
