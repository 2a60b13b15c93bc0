"""``policygrad doctor RUN``: why does it not learn?"""

import json
import sys
from typing import Any

from policygrad.cli.parser import Parser
from policygrad.cli.signals import importing

BATCH = 4
"""Episodes of a batch under the microscope: small, since what the doctor reads is the noise of one."""


def main(argv: list[str]) -> int:
    args = parser().parse(argv)
    with importing():
        from policygrad.run import api
    run = api.load(args.run, checkpoint="last")
    if run.recipe.collect == "dataset":
        raise ValueError(
            f"{args.run} plays no episodes that the doctor could judge: see offpolicy/overlap in its metrics.csv, or "
            f"policygrad ope {args.run} --data ANOTHER"
        )
    report = examine(run, trajectories=0 if args.no_measure else args.trajectories, seed=args.seed)
    print(json.dumps(report, indent=2, allow_nan=False) if args.json else in_words(report))
    return 0


def parser() -> Parser:
    made = Parser(
        prog="policygrad doctor",
        usage="policygrad doctor RUN [--no-measure] [options]",
        description="Say why a run does not learn: at most six verdicts, the most important first, each with the\n"
        "number behind it, its limit, and the one flag to change. They are read off the run's log. Where the\n"
        "return did not rise, the noise of the last policy's gradient is measured as well, unless the log has it\n"
        "or there was too little to learn from.",
    )
    option, default = made.add_argument, " (default: %(default)s)"
    option("run", metavar="RUN", help="the run's folder, such as runs/CartPole-v1/a2c-1")
    option("--no-measure", action="store_true", help="read the log alone, and play nothing (default: play too)")
    option("--trajectories", metavar="N", type=int, default=256, help="episodes played for the measurement" + default)
    option("--seed", metavar="N", type=int, default=0, help="of those episodes" + default)
    option("--json", action="store_true", help="print one JSON object and nothing else (default: sentences)")
    return made


def examine(run: Any, *, trajectories: int, seed: int) -> dict[str, Any]:
    """What the doctor finds, in plain values. The log comes first: nothing is measured that no rule would read."""
    from policygrad.measure.doctor import diagnose, randomness_of, reads_measurement

    recipe = run.recipe.to_dict()
    options: dict[str, Any] = {"randomness": randomness_of(run.env.action_space, recipe)}
    verdicts = diagnose(run.history, recipe, **options)
    why_not: str | None = "not asked for"
    if trajectories and reads_measurement(run.history, recipe):
        measurement, why_not = measured(run, trajectories, seed)
        verdicts = diagnose(run.history, recipe, measurement=measurement, **options)
    elif trajectories:
        why_not = "no need"
    return {
        "run": str(run.path),
        "algo": run.recipe.algo,
        "env": run.recipe.env,
        "seeds": run.recipe.seeds,
        "env_steps": int(run.env_steps.min()),
        "not_measured": why_not,
        "verdicts": [verdict.to_dict() for verdict in verdicts],
    }


def measured(run: Any, trajectories: int, seed: int) -> tuple[Any, str | None]:
    """``(measurement, None)`` of the last policy, or ``(None, why there is none)``: some policies and worlds cannot be
    measured, and the log speaks all the same."""
    from policygrad.run.measuring import measure

    print(f"playing {trajectories} episodes to measure the gradient ...", file=sys.stderr)
    try:
        plain: dict[str, Any] = {"rungs": ["reinforce"], "reference": 4 * BATCH, "batch": BATCH}
        return measure(run, trajectories=trajectories, seed=seed, **plain).measurement, None
    except ValueError as error:
        return None, str(error)


def in_words(report: dict[str, Any]) -> str:
    """One paragraph per verdict."""
    several = ", {seeds} seeds" if report["seeds"] > 1 else ""
    lines = [("{run}: {algo} on {env}, {env_steps:,} steps" + several).format(**report)]
    for i, verdict in enumerate(report["verdicts"], start=1):
        lines += [
            f"{i}. {verdict['words']}",
            f"   {verdict['name']}: {verdict['value']:.3g}, limit {verdict['limit']:g}",
        ]
        lines += [f"   try: {verdict['flag']}"] if verdict["flag"] else []
    if report["not_measured"] not in (None, "not asked for", "no need"):
        lines.append(f"The gradient was not measured: {report['not_measured']}")
    return "\n".join(lines)
