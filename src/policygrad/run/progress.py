"""How a run goes: a bar on a terminal and in a notebook, a plain line now and then elsewhere."""

import math
import sys
import time
from types import TracebackType
from typing import Any, TextIO

BAR = "{percentage:3.0f}% {bar} {n_fmt}/{total_fmt} steps{postfix}, {remaining} left"
SECONDS = 10.0
"""Plain lines: after every tenth of the budget, or so many seconds."""


class Progress:
    """A callback of the training loop. Use it in a ``with`` statement."""

    def __init__(self, total: int, out: TextIO, *, quiet: bool = False) -> None:
        self.total, self.out, self.quiet = total, out, quiet
        self.spoke, self.tenth = -math.inf, -1
        self.ret = math.nan
        self.bar: Any = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, row: dict[str, Any]) -> None:
        """Show a log row: environment steps, steps per second, mean return, time left."""
        if self.quiet:
            return
        steps = min(self.total, int(row["time/total_timesteps"].min()))
        returns = [ret for ret in row["rollout/ep_rew_mean"].tolist() if not math.isnan(ret)]
        self.ret = sum(returns) / len(returns) if returns else self.ret
        fps = float(row["time/fps"])
        words = f"{fps:,.0f} steps/s" + ("" if math.isnan(self.ret) else f", return {self.ret:.1f}")
        if self.out.isatty() or in_notebook():
            self.draw(steps, words)
        else:
            missing = (self.total - steps) * row["time/total_timesteps"].size
            self.tell(steps, words, left=missing / fps if fps > 0 else math.inf)

    def draw(self, steps: int, words: str) -> None:
        if self.bar is None:
            if in_notebook():
                from tqdm.auto import tqdm
            else:
                from tqdm import tqdm  # type: ignore[assignment]
            look: dict[str, Any] = {"unit_scale": True, "bar_format": BAR, "dynamic_ncols": True}
            self.bar = tqdm(total=self.total, initial=steps, file=self.out, **look)
        self.bar.set_postfix_str(words, refresh=False)
        self.bar.update(steps - self.bar.n)

    def tell(self, steps: int, words: str, left: float) -> None:
        now, tenth = time.monotonic(), 10 * steps // self.total
        if tenth > self.tenth or now - self.spoke >= SECONDS:
            self.spoke, self.tenth = now, tenth
            print(f"{steps:,} of {self.total:,} steps, {words}, {left:.0f} s left", file=self.out, flush=True)


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this: it shows a bar though its stderr is no terminal."""
    return "ipykernel" in sys.modules
