"""What the figures mean, in at most six plain sentences, the most useful first. Every number in them is measured."""

import math
from collections.abc import Iterator

from policygrad.measure.decomposition import Decomposition
from policygrad.measure.microscope import Measurement, RungReport
from policygrad.measure.statistics import Estimate, Ratio

MOST = 6
GOAL = 0.5
"""The cosine to the true gradient that sentences about the batch size aim at; beyond it, 0.9."""
ENOUGH = 16
"""With fewer batches a variance, and its error, are hardly known."""
HOPELESS = 0.05
"""Importance weights that leave a smaller share of the trajectories say nothing."""
SAME = 1e-4
"""Worths that differ by a smaller share are one."""


def sentences(m: Measurement, parts: Decomposition | None = None) -> list[str]:
    """At most six.

    Args:
        parts: the decomposition of the variance, where there is one.
    """
    texts = list(told(m))
    if parts is not None:
        texts.insert(min(2, len(texts)), caused(parts))
    return texts[:MOST]


def told(m: Measurement) -> Iterator[str]:
    """All there is to say, by importance."""
    plain, *others = m.rungs.values()
    left = overlap(m)
    if left and hopeless(plain):
        yield f"{left} So few speak for all that nothing here can be trusted: take a behaviour policy that is nearer."
    if not m.exact and m.trajectories < ENOUGH * m.batch:
        yield (
            f"With {m.trajectories // m.batch} batches the intervals of rungs that couple a batch are rough; "
            f"give at least {ENOUGH * m.batch:,} trajectories."
        )
    if m.true_norm.value <= 0 or not m.true_norm.told_from_zero:
        yield nothing_to_see(m, plain)
    yield from [text for text in (best(plain, others, m), enough_data(m), biased(m, others)) if text]
    yield from [text for text in (critic(m), gamma_dropped(m), harmful(others), cut(m)) if text]
    if left and not hopeless(plain):
        yield left


def nothing_to_see(m: Measurement, plain: RungReport) -> str:
    """The true gradient is lost in noise: so is what is compared with it."""
    if m.exact:
        return "The true gradient is exactly zero: this policy is at a stationary point of the objective."
    if m.ret.error == 0:
        return f"Every episode returned {m.ret.value:.4g}: where no action makes a difference there is no gradient."
    return (
        f"The true gradient cannot be told from zero with {m.reference_trajectories:,} trajectories"
        f"{would_tell(m, 'g', 'norm')}: the policy is near a stationary point, or more are needed; cosines and "
        "relative biases are unknown until then."
    )


def best(plain: RungReport, others: list[RungReport], m: Measurement) -> str:
    """Which rung to take."""
    ranked = sorted((r for r in others if math.isfinite(r.worth.low)), key=lambda r: -r.worth.low)
    if not ranked:
        return ""
    first, data = ranked[0], f"at {m.batch} trajectories a batch"
    if first.worth.low <= 1 + SAME:
        can = "is" if m.exact else "can be told to be"
        return f"No rung {can} worth more than {plain.name} {data}."
    text = f"{first.name} is worth {span(first.worth, m.exact)} × the data of {plain.name} {data}"
    second = next((r for r in ranked[1:] if r.worth.low > 1 + SAME), None)
    if second is None:
        return f"{text}, the most of all."
    if m.exact and math.isclose(first.worth.value, second.worth.value, rel_tol=SAME):
        return f"{text}, the most of all; {second.name} is worth the same."
    if not m.exact and second.worth.high >= first.worth.low:
        return f"{text}; {second.name} with {span(second.worth, m.exact)} × cannot be told from it."
    return f"{text}, the most of all; {second.name} follows with {span(second.worth, m.exact)} ×."


def enough_data(m: Measurement) -> str:
    """Is the batch large enough, for the rung that serves best?"""
    usable = [r for r in m.rungs.values() if math.isfinite(r.worth.value) and math.isfinite(r.cosine_true.value)]
    if not usable:
        return ""
    rung = max(usable, key=lambda r: r.worth.low)
    cosine, scale = rung.cosine_true, rung.noise_scale
    text = f"With {m.batch} trajectories the cosine of {rung.name}'s gradient to the true one"
    if not cosine.told_from_zero:
        return f"{text} cannot be told from zero{would_tell(m, rung.name, 'cosine_true')}."
    text = f"{text} is {min(cosine.value, 1):.2f} ({cosine.low:.2f} to {cosine.high:.2f})"
    if cosine.high < 0:
        return f"{text}: it points away from it."
    goal = next((goal for goal in (GOAL, 0.9) if goal > cosine.value), None)
    if goal is None:
        return text + (": more data would turn it little." if cosine.low > GOAL else ".")
    if not rung.unbiased or not scale.low > 0 or not math.isfinite(scale.high):
        return f"{text}."
    low, high = (end * goal**2 / (1 - goal**2) / m.batch for end in (scale.low, scale.high))  # cos² = N/(N + B)
    return f"{text}; {low:.2g} to {high:.2g} × the data would make it {goal:g}." if low > 1 else f"{text}."


def biased(m: Measurement, others: list[RungReport]) -> str:
    """What bias costs, where it costs most of a good rung's error."""
    known = [r for r in others if not r.unbiased and (m.exact or r.bias.told_from_zero) and r.bias.value > 0]
    if not known or not (m.true_norm.value > 0 and m.true_norm.told_from_zero):
        return ""
    least = min(known, key=lambda r: r.mse.value)
    share = least.bias.value / max(least.mse.value, 1e-300)
    relative = least.bias.value / m.true_norm.value
    amount = f"{percent(relative)} of" if relative < 10 else f"{relative:.2g} ×"
    size = f"{least.name} is biased: bias² is {'' if m.exact else 'about '}{amount} ‖g‖²"
    if share > 0.5:
        return f"{size} and {percent(min(share, 1))} of its error at this batch, so more data help it little."
    return f"{size}, {percent(share)} of its error at this batch{bias_pays(least, m)}."


def bias_pays(rung: RungReport, m: Measurement) -> str:
    """A biased rung pays only if its mean squared error is below that of every unbiased one: if it is worth more."""
    unbiased = [r for r in m.rungs.values() if r.unbiased and math.isfinite(r.worth.value)]
    if not unbiased or not math.isfinite(rung.worth.value):
        return ""
    rival = max(unbiased, key=lambda r: r.worth.value)
    if rung.worth.low > rival.worth.high:
        return ": it pays"
    if rival.worth.low > rung.worth.high:
        return f", and {rival.name}, which is unbiased, is worth more"
    same = "is worth the same" if m.exact else "cannot be told from it in worth"
    return f", and {rival.name}, which is unbiased, {same}"


def critic(m: Measurement) -> str:
    """How much of the returns V explains."""
    if m.explained is None or not math.isfinite(m.explained.value):
        return ""
    if m.explained.value < 0.005:
        return "V explains nothing of the variance of the returns: a constant would do as well."
    low, high = (100 * end for end in (m.explained.low, m.explained.high))
    return f"V explains {percent(m.explained.value)} of the variance of the returns ({low:.2g} to {high:.2g} %)."


def gamma_dropped(m: Measurement) -> str:
    """What dropping γ^t does to direction and length."""
    if m.dropped is None or not math.isfinite(m.dropped.cosine.value):
        return ""
    cosine, length = m.dropped.cosine, f"{m.dropped.length:.2g} × as long"
    if cosine.value > 0.99:
        return f"Dropping γ^t, as most implementations do, hardly turns the expected gradient; it is then {length}."
    known = f"{cosine.value:.2f}" + ("" if m.exact else f" ({cosine.low:.2f} to {cosine.high:.2f})")
    return (
        "Dropping γ^t, as most implementations do, gives another expected gradient: its cosine to the discounted "
        f"objective's is {known}, and it is {length}."
    )


def harmful(others: list[RungReport]) -> str:
    """A baseline that adds variance."""
    bad = [r for r in others if r.baseline is not None and r.baseline.verdict == "hurts"]
    if not bad:
        return ""
    names = ", ".join(r.name for r in bad)
    return f"A baseline that hurts (2·Cov[x, y] < Var[y]): {names}."


def cut(m: Measurement) -> str:
    if not m.truncated > 0.05:
        return ""
    return (
        f"{percent(m.truncated)} of the episodes were cut by the time limit: Monte-Carlo rungs count nothing behind "
        "the cut, rungs that bootstrap continue with V, and that difference is part of their bias."
    )


def hopeless(plain: RungReport) -> bool:
    """Whether importance weights leave next to nothing."""
    return plain.effective is not None and plain.effective.value < HOPELESS


def overlap(m: Measurement) -> str:
    weighted = [r for r in m.rungs.values() if r.effective is not None]
    if not weighted:
        return ""
    share = weighted[0].effective
    assert share is not None
    return (
        f"Importance weights leave {percent(share.value)} of the trajectories (effective sample size), "
        f"and no more than {percent(share.high)}."
    )


def caused(parts: Decomposition) -> str:
    """Where the variance comes from, and whether a better baseline can help."""
    own = parts.plain if parts.value is None else parts.value
    shares = [percent(part.share.value) for part in (own.trajectory, own.action, own.state)]
    subject = "without a baseline" if parts.value is None else "with V as baseline"
    return (
        f"Of the variance of one step's term ({subject}) {shares[0]} is caused by what follows the action, {shares[1]} "
        f"by the action, {shares[2]} by the state: {parts.verdict}."
    )


def span(ratio: Ratio, exact: bool) -> str:
    """A ratio with its interval, short."""
    return f"{ratio.value:.3g}" if exact else str(ratio)


def percent(x: float) -> str:
    return f"{100 * x:.3g} %"


def would_tell(m: Measurement, name: str, what: str) -> str:
    """`` (≈ 12,000 would)``: how many trajectories decide what cannot be told from zero, see
    :meth:`~policygrad.measure.microscope.Measurement.undecided`; nothing where it is told."""
    count = m.undecided().get(name, {}).get(what)
    if count is None:
        return ""
    known = m.reference_trajectories if name == "g" else m.trajectories
    if math.isinf(count):
        return f" (more than {known:,} would)"
    if count < 1.1 * known:
        return " (a few more would)"
    sign = "≤" if what in ("norm", "bias") else "≈"
    return f" ({sign} {float(f'{count:.2g}'):,.0f} would{', and as many for g' * (what == 'cosine_true')})"


def figure(estimate: Estimate, digits: int = 3) -> str:
    """``12.3 (11.1 to 13.4)``; one number where it is exact; a dash where nothing is known."""
    if not math.isfinite(estimate.value):
        return "–"
    number = lambda x: f"{x:.{digits}g}"  # noqa: E731
    if estimate.low == estimate.high:
        return number(estimate.value)
    return f"{number(estimate.value)} ({number(estimate.low)} to {number(estimate.high)})"
