"""The same report without sampling, for a :class:`TabularMDP`: every figure a number, no intervals.

By moment recursions where a rung has one (any batch size, episodes of any length), by enumeration of all tuples of
trajectories where it has none and they are few. For whatever is left the report says why.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from policygrad.envs.tabular import TabularMDP
from policygrad.ladder.psi import Psi
from policygrad.measure.exact import Moments, as_vector, gradient, ladder_moments, objective
from policygrad.measure.gather import actor_alone
from policygrad.measure.microscope import UNKNOWN, BaselineTest, Dropped, Measurement, RungReport, in_words
from policygrad.measure.recursions import recursive_moments, why_not
from policygrad.measure.rungs import Rung, reference_rung, without_baseline
from policygrad.measure.statistics import Estimate, Ratio

ROUNDING = 1e-20
"""A bias² smaller than this share of ‖E ĝ‖² is float64's."""
TUPLES = 20_000
"""So many tuples of trajectories are enumerated for a rung that couples a batch."""


def measure_exactly(
    mdp: TabularMDP,
    model: Any,
    rungs: Mapping[str, Rung],
    *,
    gamma: float,
    declared: str,
    batch: int = 64,
    behaviour: Any = None,
    critic: Any = None,
) -> Measurement:
    """Rungs on one frozen policy, exactly. Arguments as for
    :func:`~policygrad.measure.microscope.measure_gradients`; ``declared`` is the objective.

    Raises:
        ValueError: no rung has an exact method here; the message says why.
    """
    with jax.enable_x64():
        model, behaviour, critic = (in_float64(m) for m in (model, behaviour, critic))
        options: dict[str, Any] = {"behaviour": behaviour, "critic": critic}
        truth = true_gradient(mdp, model, gamma, declared)
        found, refused = {}, {}
        for name, rung in rungs.items():
            moments, reason = moments_of(mdp, model, rung, batch, truth, options)
            if moments is None:
                refused[name] = reason
                continue
            test = None
            if rung.psi.baseline != "none":
                without = moments_of(mdp, model, without_baseline(rung), batch, truth, options)[0]
                taken = baseline_alone(mdp, model, rung, batch, truth, options)
                test = None if without is None else baseline_test(moments, without, taken)
            found[name] = rung, moments, test
        if not found:
            raise ValueError(f"no rung has an exact method here. {next(iter(refused.values()))}")
        plain = next(iter(found.values()))[1]
        return Measurement(
            objective=declared,
            gamma=gamma,
            batch=batch,
            trajectories=0,
            reference_trajectories=0,
            exact=True,
            dimension=sum(x.size for x in jax.tree.leaves(eqx.filter(actor_alone(model), eqx.is_inexact_array))),
            projected=None,
            true_norm=exactly(squared(truth)),
            ret=exactly(float(objective(mdp, model, 1.0))) if ends(mdp, model) else UNKNOWN,
            length=float("nan"),
            truncated=float("nan"),
            explained=None,
            dropped=dropped(mdp, model, gamma, truth) if declared == "discounted" and gamma < 1 else None,
            rungs={name: report_of(rung, moments, test, plain, batch) for name, (rung, moments, test) in found.items()},
            refused=refused,
        )


def in_float64(model: Any) -> Any:
    """A model whose arrays are float64."""
    double = lambda x: jnp.asarray(x, jnp.float64) if eqx.is_inexact_array(x) else x  # noqa: E731
    return jax.tree.map(double, model)


def true_gradient(mdp: TabularMDP, model: Any, gamma: float, declared: str) -> PyTree:
    """g of the declared objective."""
    if declared != "approximation":
        return gradient(mdp, model, 1.0 if declared == "undiscounted" else gamma)
    psi = without_baseline(reference_rung(gamma, declared, False)).psi
    reason = why_not(mdp, model, psi)
    if reason is not None:
        raise ValueError(f"the γ-approximation has no exact gradient here: {reason}")
    return recursive_moments(mdp, model, psi).mean


def moments_of(
    mdp: TabularMDP, model: Any, rung: Rung, batch: int, truth: PyTree, options: dict[str, Any]
) -> tuple[Moments | None, str]:
    """The moments of the mean over ``batch`` trajectories, or why there are none."""
    if rung.window is not None:
        return None, "windows cut whole episodes: measure it by sampling"
    reason = why_not(mdp, model, rung.psi, **options)
    if reason is None:
        return recursive_moments(mdp, model, rung.psi, batch=batch, reference=truth, **options), ""
    try:
        every = {rung.name: rung.psi}
        found = ladder_moments(mdp, model, every, batch=batch, reference=truth, limit=TUPLES, **options)
        return found[rung.name], ""
    except ValueError:
        return None, f"{reason}; nor are there few enough trajectories to enumerate batches of {batch}"


def report_of(rung: Rung, moments: Moments, test: BaselineTest | None, plain: Moments, batch: int) -> RungReport:
    """Figures of one rung from its moments at N."""
    variance, bias, norm = float(moments.variance), squared(moments.bias), squared(moments.mean)
    bias = 0.0 if rung.unbiased or bias < ROUNDING * norm else bias
    mse, plain_mse = variance + bias, float(plain.variance) + squared(plain.bias)
    return RungReport(
        name=rung.name,
        choice=in_words(rung),
        unbiased=rung.unbiased,
        variance=exactly(variance),
        norm=exactly(norm),
        bias=exactly(bias),
        mse=exactly(mse),
        snr=ratio(norm, variance),
        noise_scale=ratio(batch * variance, norm),
        cosine_between=UNKNOWN,
        cosine_true=UNKNOWN,
        worth=ratio(plain_mse, mse),
        effective=None,
        baseline=test,
    )


def baseline_alone(
    mdp: TabularMDP, model: Any, rung: Rung, batch: int, truth: PyTree, options: dict[str, Any]
) -> Moments | None:
    """Of y, what a baseline takes away: where nothing is ever paid, a Monte-Carlo rung is −y. None where the baseline
    comes from the returns of a batch, or is weighted."""
    psi = rung.psi
    if psi.baseline not in ("constant", "value") or psi.correction != "none" or psi.standardize:
        return None
    unpaid = replace(mdp, reward_value=np.zeros_like(mdp.reward_value))
    target = psi.target if psi.target == "total_return" else "reward_to_go"
    alone = Psi(target, psi.baseline, discounted=psi.discounted, gamma=psi.gamma, b=psi.b)
    return moments_of(unpaid, model, rung._replace(psi=alone), batch, truth, options)[0]


def baseline_test(after: Moments, before: Moments, taken: Moments | None) -> BaselineTest:
    """Both sides of 2·Cov[x, y] > Var[y], where y is known alone."""
    gain = float(before.variance - after.variance)
    variance = float("nan") if taken is None else float(taken.variance)
    return BaselineTest(covariance=gain + variance, variance=variance, gain=exactly(gain))


def dropped(mdp: TabularMDP, model: Any, gamma: float, truth: PyTree) -> Dropped | None:
    """What dropping γ^t does."""
    psi = without_baseline(reference_rung(gamma, "approximation", False)).psi
    if why_not(mdp, model, psi) is not None:
        return None
    g, other = as_vector(truth), as_vector(recursive_moments(mdp, model, psi).mean)
    lengths = float(jnp.linalg.norm(g)), float(jnp.linalg.norm(other))
    cosine = float(g @ other) / (lengths[0] * lengths[1]) if min(lengths) > 0 else float("nan")
    length = lengths[1] / lengths[0] if lengths[0] > 0 else float("inf")
    return Dropped(exactly(cosine), exactly(float(jnp.sum((other - g) ** 2))), length)


def ends(mdp: TabularMDP, model: Any) -> bool:
    """Whether the undiscounted return is known to be finite: it has a moment recursion."""
    psi = without_baseline(reference_rung(1.0, "undiscounted", False)).psi
    return why_not(mdp, model, psi) is None


def exactly(value: float) -> Estimate:
    """A number that is known."""
    return Estimate(value, 0.0, value, value)


def ratio(a: float, b: float) -> Ratio:
    """a/b, exactly; infinite over zero."""
    value = a / b if b > 0 else float("inf") if a > 0 else float("nan")
    return Ratio(value, value, value)


def squared(tree: PyTree) -> float:
    """‖x‖²."""
    return float(np.sum(np.square(as_vector(tree))))
