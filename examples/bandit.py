"""A contextual bandit: one row at a time with named features, and a whole data set in one program.

python examples/bandit.py
policygrad bandit digits --explorer squarecb,linucb
"""

import jax
import numpy as np

import policygrad as pg
from policygrad.bandits import fit_encoder, hash_features, load_table, progressive, rewards_of, sample

LAYOUTS = ("text", "pictures", "banner")


def click(random: np.random.Generator, visitor: dict, layout: str) -> float:
    """What the website would see: young visitors like pictures, those on a phone hate banners."""
    liked = {
        "text": 0.5,
        "pictures": 0.9 - visitor["age"] / 100,
        "banner": 0.1 if visitor["device"] == "phone" else 0.7,
    }
    return float(random.random() < liked[layout])


def website(visitors: int) -> float:
    """Serve visitors one by one; the share that clicked among the second half."""
    bits, random = 6, np.random.default_rng(0)
    bandit = pg.squarecb(len(LAYOUTS), 2**bits + 1, gamma_scale=20.0)
    state, clicks = bandit.init(jax.random.key(0)), []
    for _ in range(visitors):
        visitor = {"age": float(random.integers(15, 80)), "device": str(random.choice(["phone", "desktop"]))}
        context = hash_features({"age": visitor["age"] / 50, "device": visitor["device"]}, bits)
        probabilities = bandit.predict(state, context).probabilities
        layout = int(sample(probabilities, np.float32(random.random())))
        clicks.append(click(random, visitor, LAYOUTS[layout]))
        state = bandit.learn(state, context, layout, clicks[-1])  # log probabilities[layout] too: it is the propensity
    share = float(np.mean(clicks[visitors // 2 :]))
    print(f"website: {share:.0%} of the later visitors clicked; any fixed layout has about 40 to 50 %")
    return share


def digits(rows: int) -> float:
    """Recognise digits although only right or wrong is said; the share of the last quarter that was right."""
    table = load_table("digits")
    order = np.random.default_rng(0).permutation(len(table.label))[:rows]
    features = fit_encoder(table.columns)(table.columns)[order]
    rewards = rewards_of(table.label, len(table.classes))[order]
    bandit = pg.squarecb(len(table.classes), features.shape[1], gamma_scale=300.0, ridge=10.0)
    state, log = progressive(bandit, bandit.init(jax.random.key(0)), jax.random.key(1), features, rewards)
    share = float(np.mean(log.reward[-(rows // 4) :]))
    print(f"digits: after {int(state.rows):,} guesses {share:.0%} of the last ones were right; chance is 10 %")
    return share


def main(visitors: int = 1000, rows: int = 1797) -> tuple[float, float]:
    return website(visitors), digits(rows)


if __name__ == "__main__":
    main()
