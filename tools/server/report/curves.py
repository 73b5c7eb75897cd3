"""A run's curves as SVG: every update with the extremes of what was thinned, their smooth mean, validation, marks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tools.figures.wording import figure
from tools.server.report.markup import Markup, tag

WIDE, NARROW = (1000.0, 300.0), (560.0, 220.0)
"""Width and height of the first picture, and of those that stand side by side."""
LEFT, RIGHT, TOP, BOTTOM = 64.0, 12.0, 10.0, 28.0
"""Margins around the curves, in units of the picture."""
SMOOTHING = 0.9
"""Share of the mean before in each step of the smooth mean."""
_TICKS = 5

Values = Sequence[float | None]


@dataclass(frozen=True)
class Curve:
    """Curves that are drawn in one picture."""

    steps: Sequence[float]
    value: Values
    low: Values
    high: Values
    held_steps: Sequence[float] = ()
    held: Values = ()
    """Measurements on the validation data."""
    not_finite: Sequence[float] = ()
    """Steps at which the figure was not finite."""
    resumed: Sequence[float] = ()
    """Steps behind which the run was resumed."""
    is_log: bool = False
    is_smoothed: bool = True
    is_share: bool = False
    """Values are written in percent."""


def curve_of(
    history: Mapping[str, object], key: str, *, is_log: bool, is_smoothed: bool = True, is_share: bool = False
) -> Curve:
    """Return one figure of a history.

    Args:
        history: as `tools.server.reading.history.RunCurve.to_dict` gives it.
        key: name of the figure.
        is_log: draw it on a logarithmic scale, where all its values are positive.
        is_smoothed: draw its smooth mean too.
        is_share: write its values in percent.
    """
    series: Mapping[str, Values] = history["series"].get(key, {})  # type: ignore[attr-defined]
    held: Mapping[str, Values] = history["evaluations"]  # type: ignore[assignment]
    values = [*series.get("low", ()), *held.get(key, ())]
    return Curve(
        steps=history["step"],  # type: ignore[arg-type]
        value=series.get("value", ()),
        low=series.get("low", ()),
        high=series.get("high", ()),
        held_steps=[step or 0.0 for step in held.get("step", ())] if key in held else (),
        held=held.get(key, ()),
        not_finite=history["nonfinite"].get(key, ()),  # type: ignore[attr-defined]
        resumed=history["resumed_at"],  # type: ignore[arg-type]
        is_log=is_log and all(value is None or value > 0.0 for value in values),
        is_smoothed=is_smoothed,
        is_share=is_share,
    )


class _Scale:
    """Places of values on an axis."""

    def __init__(self, low: float, high: float, start: float, end: float, *, is_log: bool) -> None:
        self.low, self.high, self.is_log = low, high, is_log
        self._start, self._end = start, end
        first, last = self._of(low), self._of(high)
        self._first, self._length = first, (last - first) or 1.0

    def _of(self, value: float) -> float:
        return math.log10(value) if self.is_log else value

    def __call__(self, value: float) -> float:
        return self._start + (self._end - self._start) * (self._of(value) - self._first) / self._length

    def ticks(self) -> Iterator[float]:
        """Yield round values on the axis."""
        if self.is_log and (decades := math.log10(self.high / self.low)) >= 0.5:
            multiples = (1, 1.5, 2, 3, 5, 7) if decades <= 1 else (1, 2, 5) if decades <= 2 else (1,)
            every = max(1, math.ceil(decades / 6))
            for power in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1, every):
                yield from (m * 10.0**power for m in multiples if self.low <= m * 10.0**power <= self.high)
            return
        rough = (self.high - self.low) / _TICKS or 1.0
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough)
        first = math.ceil(self.low / step)
        while first * step <= self.high:
            yield first * step
            first += 1


def drawn(curve: Curve, label: str, size: tuple[float, float] = WIDE) -> Markup:
    """Return the picture of a curve; empty where no value is known.

    Args:
        curve: what is drawn.
        label: for screen readers.
        size: width and height.
    """
    width, height = size
    known = [v for v in (*curve.low, *curve.high, *curve.held) if v is not None]
    steps = [*curve.steps, *curve.held_steps]
    if not known or not steps:
        return Markup()
    x = _Scale(min(steps), max(*steps, min(steps) + 1), LEFT, width - RIGHT, is_log=False)
    y = _Scale(*_range(known, curve.is_log), height - BOTTOM, TOP, is_log=curve.is_log)
    return tag(
        "svg",
        _grid(x, y, size, is_share=curve.is_share),
        [
            tag("line", x1=f"{x(s):.1f}", x2=f"{x(s):.1f}", y1=TOP, y2=height - BOTTOM, class_="resumed")
            for s in curve.resumed
        ],
        tag("path", d=_band(curve, x, y), class_="band"),
        tag("path", d=_line(curve.steps, curve.value, x, y), class_="value faint" if curve.is_smoothed else "value"),
        tag("path", d=_line(curve.steps, _smooth(curve.value), x, y), class_="smooth") if curve.is_smoothed else None,
        tag("path", d=_line(curve.held_steps, curve.held, x, y), class_="held"),
        [
            tag("circle", tag("title", f"{step:,.0f}: {figure(value)}"), cx=f"{x(step):.1f}", cy=f"{y(value):.1f}", r=3)
            for step, value in zip(curve.held_steps, curve.held, strict=True)
            if value is not None
        ],
        [tag("path", d=_cross(x(step), height - BOTTOM - 9), class_="cross") for step in curve.not_finite],
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=label,
    )


def _range(known: Sequence[float], is_log: bool) -> tuple[float, float]:
    low, high = min(known), max(known)
    if is_log:
        room = max(1.05, (high / low) ** 0.06)
        return low / room, high * room
    room = (high - low or abs(high) or 1.0) * 0.08
    return (max(0.0, low - room) if low >= 0.0 else low - room), high + room


def _grid(x: _Scale, y: _Scale, size: tuple[float, float], *, is_share: bool) -> Iterator[Markup]:
    width, height = size
    bottom = height - BOTTOM
    for step in x.ticks():
        if step == int(step):
            at = f"{x(step):.1f}"
            yield tag("line", x1=at, x2=at, y1=TOP, y2=bottom, class_="grid")
            yield tag("text", f"{step:,.0f}", x=at, y=height - 8, text_anchor="middle")
    for value in y.ticks():
        at = f"{y(value):.1f}"
        yield tag("line", x1=LEFT, x2=width - RIGHT, y1=at, y2=at, class_="grid")
        yield tag("text", _tick(value, is_share=is_share), x=LEFT - 8, y=f"{y(value) + 4:.1f}", text_anchor="end")


def _tick(value: float, *, is_share: bool) -> str:
    if is_share:
        return f"{value:.3g}" if value and abs(value) < 0.001 else f"{100 * value:.3g}%"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _line(steps: Sequence[float], values: Values, x: _Scale, y: _Scale) -> str:
    """Return the path of a line; a value that is not known is a gap, and a value between two gaps is a dot."""
    path, is_open = [], False
    for step, value in zip(steps, values, strict=False):
        if value is None:
            is_open = False
            continue
        place = f"{x(step):.1f} {y(value):.1f}"
        path.append(f"L{place}" if is_open else f"M{place}h.1")
        is_open = True
    return "".join(path)


def _band(curve: Curve, x: _Scale, y: _Scale) -> str:
    """Return the area between the extremes of what each point stands for."""
    path: list[str] = []
    part: list[tuple[float, float, float]] = []
    for step, low, high in [*zip(curve.steps, curve.low, curve.high, strict=False), (0.0, None, None)]:
        if low is not None and high is not None:
            part.append((x(step), y(low), y(high)))
            continue
        if len(part) > 1:
            up = "L".join(f"{at:.1f} {top:.1f}" for at, _, top in part)
            down = "L".join(f"{at:.1f} {bottom:.1f}" for at, bottom, _ in reversed(part))
            path.append(f"M{up}L{down}Z")
        part = []
    return "".join(path)


def _smooth(values: Values) -> list[float | None]:
    """Return the exponential mean of a curve, as if its first value had stood before it for ever."""
    found: list[float | None] = []
    mean: float | None = None
    for value in values:
        if value is not None:
            mean = value if mean is None else SMOOTHING * mean + (1.0 - SMOOTHING) * value
        found.append(None if value is None else mean)
    return found


def _cross(at: float, y: float) -> str:
    return f"M{at - 4:.1f} {y - 4:.1f}l8 8M{at - 4:.1f} {y + 4:.1f}l8 -8"
