"""SquareCB and the policy gradient in the page-layout world, as a bandit and as a decision process; and on digits."""

import jax
import numpy as np
from style import BLUE, DASHDOT, DASHED, DOTTED, GREEN, GREY, ORANGE, RED, SOLID, canvas, curves, label, save

import policygrad as pg
from policygrad.bandits import EXPLORERS, fit_encoder, load_table, play, rewards_of, shuffled
from policygrad.envs.page_layout import best_click_rate

PAGES, WINDOW, SEEDS = 10_000, 500, 12
SCALES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
WORLDS = {
    "PageLayout-v0": "Nobody comes back: a bandit",
    "PageLayoutSequential-v0": "Users come back: a decision process",
}
GRADIENT = dict(algo="ppo", learning_rate=3e-3, n_envs=4, n_steps=64)
"""The policy gradient: in the first world the best of six presets and settings on seeds 100 to 103, in the second as
good as the best of three."""
CHOSEN = {
    "squarecb": dict(gamma_scale=1000.0),
    "epsilon_greedy": dict(epsilon=0.01),
    "softmax": dict(temperature=0.005),
    "linucb": dict(alpha=0.05),
}
"""Of two or three values, on shuffles of seed 100; ridge 30 for all."""


def squarecb_in(name: str) -> np.ndarray:
    """``[PAGES / WINDOW, seeds]``: clicks per user among the users whose last page was in the window. All defaults."""
    env = pg.make(name)
    bandit = pg.squarecb(env.action_space.n, env.observation_space.shape[0] + 1)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    _, played = jax.jit(lambda keys: jax.lax.map(lambda key: play(bandit, env, key, PAGES), keys))(keys)
    done, clicks = (np.asarray(x).reshape(SEEDS, -1, WINDOW) for x in (played.done, played.ret))
    return (clicks.sum(axis=-1, where=done) / done.sum(axis=-1)).T


def gradient_in(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The same of the policy gradient while it learns: interactions, and ``[points, seeds]``."""
    run = pg.train(name, **GRADIENT, total_timesteps=PAGES, seeds=SEEDS, eval_every=0, log_every=WINDOW, out=None)
    return run.history["time/total_timesteps"].max(axis=-1), run.history["rollout/ep_rew_mean"]


def digits(explorer: str, **options: float) -> np.ndarray:
    """``[shuffles]``: the share of right choices in one pass."""
    table = load_table("digits")
    features = fit_encoder(table.columns)(table.columns)
    rewards = rewards_of(table.label, len(table.classes))
    random = np.random.default_rng(0)
    orders = np.stack([random.permutation(len(features)) for _ in range(10)])
    bandit = EXPLORERS[explorer](len(table.classes), features.shape[1], **options)
    return np.asarray(shuffled(bandit, jax.random.key(0), features, rewards, orders)[1].reward).mean(axis=1)


def say(what: str, x: np.ndarray) -> None:
    """A number of the page: the mean over seeds of ``[seeds]``, and half of its 95 % interval."""
    print(f"{what}: {x.mean():.3f} ± {1.96 * x.std(ddof=1) / len(x) ** 0.5:.3f}")


figure, panels = canvas(3, width=10.8, height=3.7)
for axes, (name, title) in zip(panels, WORLDS.items()):
    bandit, (x, gradient) = squarecb_in(name), gradient_in(name)
    curves(axes, np.arange(WINDOW, PAGES + 1, WINDOW), bandit, "SquareCB", BLUE)
    curves(axes, x, gradient, "policy gradient (PPO)", RED, DASHED)
    label(axes, title, "pages shown", "clicks per user, while learning")
    mean = np.stack([np.interp(np.arange(0, PAGES), x, column) for column in gradient.T]).mean(axis=1)
    say(f"{name}, SquareCB, all pages", bandit.mean(axis=0))
    say(f"{name}, policy gradient, all pages", mean)
    say(f"{name}, SquareCB, last tenth", bandit[-2:].mean(axis=0))
    say(f"{name}, policy gradient, last tenth", gradient[-2:].mean(axis=0))
best = best_click_rate()
panels[0].axhline(best, color=GREY, linewidth=1, linestyle=DOTTED)
panels[0].annotate(
    "best policy", (PAGES, best), (0, 10), textcoords="offset points", fontsize=8, color=GREY, ha="right"
)
for prior, color, dashes in ((0.5, BLUE, SOLID), (1.0, GREEN, DOTTED), (0.0, ORANGE, DASHDOT)):
    shares = [digits("squarecb", gamma_scale=scale, prior=prior) for scale in SCALES]
    curves(panels[2], SCALES, shares, f"prior {prior:g}", color, dashes)
for name, options in CHOSEN.items():
    say(f"digits, {name}", digits(name, ridge=30.0, **options))
label(panels[2], "SquareCB on digits: the prior", "scale of γ", "right choices in one pass")
panels[2].set_xscale("log")
panels[2].set_ylim(0.4, 0.9)
for axes in panels:
    axes.legend(frameon=False, fontsize=8, loc="lower right")
panels[0].set_ylim(0.4, 0.78)
panels[1].set_ylim(0, 14)
save(figure, "bandits", f"{SEEDS} seeds (0 to {SEEDS - 1}), digits: 10 shuffles of seed 0; bands: 95 % bootstrap")
