"""How ``min_overlap`` was chosen: which limit refuses data that hurt and keeps data that help, on worlds and keys that
the docs' figure (``docs/figures/old_data.py``) does not report.

    python benchmarks/overlap.py

A row for each limit: of all datasets that would have improved the policy, how many it refuses (for policies that begin
untrained, and after ten exact gradient steps), and the mean gain of what it refuses and of what it lets through.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "figures"))

import old_data

from policygrad.envs.tabular import random_mdp

LIMITS = (0.005, 0.01, 0.02, 0.03, 0.05)
WORLDS = {20: 6, 21: 12}
"""Seed of the world -> its horizon."""


def main(copies: int = 30) -> None:
    old_data.LINES.clear()  # no intervals: only the gains are looked at
    print("begins      limit   refused by mistake   gain of the refused   gain of the others")
    for name, ascent in (("untrained", 0), ("trained", 10)):
        mdps = {seed: random_mdp(seed, 5, 3, branching=2, n_rewards=1, horizon=h) for seed, h in WORLDS.items()}
        found = old_data.together([old_data.study(mdp, 200 + seed, copies, ascent) for seed, mdp in mdps.items()])
        better = found.gain > 0
        for limit in LIMITS:
            refused = found.share < limit
            gains = [found.gain[those].mean() if those.any() else float("nan") for those in (refused, ~refused)]
            print(f"{name:<10}  {limit:<5}   {refused[better].mean():>18.1%}   {gains[0]:>19.3f}   {gains[1]:>18.3f}")


if __name__ == "__main__":
    main()
