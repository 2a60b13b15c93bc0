"""Learn from another policy's episodes, and judge what was learned without playing it.

python examples/old_data.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import policygrad as pg


def main(
    practice: int = 20_000, episodes: int = 400, total_timesteps: int = 100_000, env: str = "CartPole-v1"
) -> dict[str, float]:
    with TemporaryDirectory() as folder:
        # Somebody's policy, half trained, and what it has left behind: two datasets.
        old = pg.train(env, "a2c", total_timesteps=practice, path=Path(folder) / "old", tensorboard=False, seed=1)
        to_learn_from = pg.record(old, episodes=episodes, seed=1)
        to_judge_by = pg.record(old, episodes=2 * episodes, seed=2)

        # Learning begins with the policy that played. Where the new policy leaves the data behind, it ends.
        new = pg.offpolicy(
            env, to_learn_from, init_from=old.path, total_timesteps=total_timesteps, eval_every=0, out=None
        )
        print(new)

        # What is it worth? Its own data would flatter it, so others are asked.
        judged = pg.ope(new, to_judge_by)
        print(judged)

        # With the environment at hand, the truth can be played.
        played = pg.evaluate(new, env, episodes=400, deterministic=False)
        print(f"played: {played.mean:.1f} (95 % {played.interval[0]:.1f} to {played.interval[1]:.1f})")
        before, weighted = float(to_judge_by.returns.mean()), judged.estimates["wis"].value
        return {"before": before, "judged": weighted, "played": played.mean}


if __name__ == "__main__":
    main()
