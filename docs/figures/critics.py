"""What a critic regresses on: the error of V on a random walk, for four targets and the same step size."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from style import BLUE, DASHDOT, DASHED, DOTTED, GREEN, PINK, RED, SOLID, canvas, curves, label, save

from policygrad.collect import episode_collector, window_collector
from policygrad.envs import autoreset
from policygrad.envs.tabular import chain
from policygrad.ladder import Psi
from policygrad.learn import Hyper, Score, make_learner
from policygrad.measure import policy_evaluation
from policygrad.models import Categorical
from policygrad.types import Input, Output

GAMMA, STATES, ROWS, SEEDS, BUDGET = 0.95, 8, 128, 8, 30_000
mdp = chain(STATES, time_limit=400)
walk = jnp.full((STATES, 2), 0.5)
truth = policy_evaluation(mdp, walk, GAMMA)[:-1]
HYPER = Hyper(learning_rate=0.4, ent_coef=0.0, vf_coef=1.0, max_grad_norm=jnp.inf)


class Watcher(eqx.Module):
    """Walks at random and has no say in it; only its V is learned."""

    table: jax.Array

    def initial(self) -> None:
        return None

    def __call__(self, input: Input, carry: None) -> tuple[Output, None]:
        return Output(Categorical(jnp.zeros(2)), None, self.table[input.obs]), carry


def errors(target: str, lam: float = 1.0, target_copy: str = "none") -> Callable[..., tuple[jax.Array, jax.Array]]:
    """``key -> (steps, error)``: the rms error of V after each update."""
    stream = autoreset(mdp)
    whole = target == "monte_carlo"
    collector = episode_collector(stream, 4) if whole else window_collector(stream, 8, ROWS // 8)
    learner = make_learner(
        lambda key: Watcher(jnp.zeros(STATES)),
        Psi("lambda_return", "value", gamma=GAMMA, lam=lam),
        kind=Score(),
        hyper=HYPER,
        per="step",
        critic_target=target,
        target_copy=target_copy,
        target_every=20,
        optimizer="sgd",
    )

    def run(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        def step(loop: tuple, key: jax.Array) -> tuple[tuple, tuple[jax.Array, jax.Array]]:
            state, collected, steps = loop
            collected, trajectory, _ = collector.collect(learner.model(state), collected, key)
            state, _ = learner.update(state, trajectory, key)
            steps = steps + jnp.sum(trajectory.mask)
            error = learner.model(state).table[:-1] - truth
            return (state, collected, steps), (steps, jnp.sqrt(jnp.mean(error**2)))

        state = learner.init(key)
        start = (state, collector.init(learner.model(state), key), jnp.zeros((), jnp.int32))
        return jax.lax.scan(step, start, jax.random.split(key, BUDGET // ROWS))[1]

    return jax.jit(jax.vmap(run))


KINDS = {
    "Monte-Carlo": (errors("monte_carlo"), RED, SOLID),
    "λ-return, λ = 0.9": (errors("lambda_return", lam=0.9), GREEN, DASHED),
    "TD(0)": (errors("td0"), BLUE, DASHDOT),
    "TD(0), target copy held for 20 updates": (errors("td0", target_copy="periodic"), PINK, DOTTED),
}
keys = jax.vmap(jax.random.key)(jnp.arange(SEEDS))
at = np.linspace(500, BUDGET * 0.95, 160)
figure, (axes,) = canvas(height=3.7)
for name, (run, color, dashes) in KINDS.items():
    errors_at = [np.interp(at, steps, error) for steps, error in zip(*map(np.asarray, run(keys)))]
    curves(axes, at, np.stack(errors_at, axis=1), name, color, dashes)
axes.set_xlim(0, BUDGET * 0.95)
axes.set_ylim(bottom=0)
axes.legend(frameon=False, fontsize=9)
label(axes, "Learning V of a random walk", "environment steps", "root mean square error of V")
world = f"chain({STATES}), γ = {GAMMA}, step size {HYPER.learning_rate}"
save(figure, "critics", f"{world}; seeds 0–{SEEDS - 1}, mean and 95 % bootstrap band")
