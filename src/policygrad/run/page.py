"""One self-contained page: no network, no script, readable from disk and on paper."""

import html
import json
import math
import re
from typing import Any

from policygrad.measure.words import figure

STYLE = """
body { font: 16px/1.5 Georgia, 'DejaVu Serif', serif; color: #222; }
body { max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; } p.what { color: #555; margin: .2rem 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font: 13.5px/1.4 'DejaVu Sans', Arial, sans-serif; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
th { border-bottom: 2px solid #222; }
figure { margin: 1.4rem 0; } svg { max-width: 100%; height: auto; } figcaption { color: #555; font-size: .9rem; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: 12px; } dd { margin-bottom: .4rem; }
@media print { body { max-width: none; } figure, table { break-inside: avoid; } }
"""

CAPTIONS = {
    "worth": "Bars: mean squared error of plain REINFORCE over that of the rung, both with N trajectories. Lines: "
    "95 % sets.",
    "bias-variance": "The nearer to the lower left, the better. Lines are 95 % intervals; open symbols have no bias "
    "that can be told from zero. Dashed: the squared length of the true gradient.",
    "cosine": "Mean cosine between a batch's gradient and the true one, with 95 % intervals. One that does not tend to "
    "1 is biased.",
    "parts": "Total variance of one row's gradient, by what caused it.",
}
READING = """
<dl><dt><b>worth</b></dt>
<dd>so many times the data would plain REINFORCE need for the same mean squared error, at this batch size</dd>
<dt><b>noise tr Cov</b></dt><dd>total variance of a batch's gradient</dd>
<dt><b>bias²</b></dt>
<dd>squared distance of the expected gradient to the true one; the estimate is unbiased, so it can be negative</dd>
<dt><b>SNR</b></dt><dd>squared length of the expected gradient over the noise</dd>
<dt><b>critical batch</b></dt>
<dd>trajectories at which signal and noise are equal: below it more data help in proportion, above it little</dd>
<dt><b>baseline</b></dt><dd>whether it lowers the variance: it does if and only if 2·Cov[x, y] &gt; Var[y]</dd></dl>
"""


BASELINE_COLUMNS = ["rung", "2·Cov[x, y]", "Var[y]", "variance taken off", ""]
BASELINE_NOTE = (
    '<p class="what">x: the gradient without the baseline; y: what it takes away. It helps if and only if '
    "2·Cov[x, y] &gt; Var[y].</p>"
)


def page(report: Any, drawn: dict[str, bytes]) -> str:
    """The whole HTML of a :class:`~policygrad.run.report.Report`."""
    m = report.measurement
    esc = html.escape
    columns, rows = report.rows()
    rungs = table([*columns, "Ψ"], [[*row, r.choice] for row, r in zip(rows, m.rungs.values())])
    why_empty = "".join(f'<p class="what">{esc(line)}</p>' for line in report.without_cosine())
    refused = "".join(f"<li>{esc(name)}: {esc(reason)}</li>" for name, reason in m.refused.items())
    refusals = f"<h2>Not measured exactly</h2><ul>{refused}</ul>" if refused else ""
    tested = [(r.name, r.baseline) for r in m.rungs.values() if r.baseline is not None]
    tests = [[name, short(t.covariance), short(t.variance), figure(t.gain), t.verdict] for name, t in tested]
    baselines = f"<h2>Does the baseline help?</h2>{table(BASELINE_COLUMNS, tests)}{BASELINE_NOTE}" if tests else ""
    told = "".join(f"<li>{esc(text)}</li>" for text in report.sentences())
    figures = "".join(
        f"<figure>{inline(svg)}<figcaption>{esc(CAPTIONS[name])}</figcaption></figure>" for name, svg in drawn.items()
    )
    versions = ", ".join(f"{name} {number}" for name, number in report.to_dict()["versions"].items())
    recipe = f"<h2>The run</h2><pre>{esc(json.dumps(report.recipe, indent=1))}</pre>" if report.recipe else ""
    what = "".join(f'<p class="what">{esc(line)}</p>' for line in report.heading())
    title = f"The policy gradient on {report.env}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{esc(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>'
        f"<h1>{esc(title)}</h1>{what}<h2>In words</h2><ul>{told}</ul><h2>Every rung</h2>"
        f"{rungs}{why_empty}{refusals}{baselines}"
        f"<h2>Pictures</h2>{figures}<h2>How to read it</h2>{READING}{recipe}"
        f'<p class="what">seed {report.seed}; {report.seconds:.1f} s; {esc(versions)}</p></body></html>'
    )


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Text in rows and columns."""
    row = lambda cells, tag: "<tr>" + "".join(f"<{tag}>{html.escape(x)}</{tag}>" for x in cells) + "</tr>"  # noqa: E731
    body = "".join(row(cells, "td") for cells in rows)
    return f'<div class="wide"><table><thead>{row(columns, "th")}</thead><tbody>{body}</tbody></table></div>'


def short(x: float) -> str:
    """A number, or a dash where it is not known."""
    return f"{x:.3g}" if math.isfinite(x) else "–"


def inline(svg: bytes) -> str:
    """An SVG inside a page: without its prolog and its metadata."""
    return re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>", "", svg.decode(), flags=re.DOTALL)
