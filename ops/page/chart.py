"""Hours as bars: where each part of an SVG is drawn. What it says in shapes is beside it as a table."""

from dataclasses import dataclass
from datetime import datetime

from contact_references.model.coverage import HOUR
from ops.coverage import Coverage, describe_row, group_hours, state_of

WIDTH, HEIGHT = 960, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 4, 12, 30
_GAP = 2.0
_LEAST = 3.0  # what is there is seen, a single contact of many too


@dataclass(frozen=True)
class Bar:
    """An hour: its contacts that are captured, from the ground up, and on top of them those that are missing."""

    x: float
    width: float
    captured_y: float
    captured_height: float
    missing_y: float
    missing_height: float
    is_open: bool
    says: str


@dataclass(frozen=True)
class Tick:
    """A word beside an axis, and where."""

    at: float
    word: str
    is_day: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart's parts, in a picture of WIDTH by HEIGHT; `rows` say the same as a table."""

    bars: tuple[Bar, ...]
    hours: tuple[Tick, ...]
    counts: tuple[Tick, ...]
    rows: tuple[tuple[str, ...], ...]
    ground: float = HEIGHT - _BOTTOM
    left: float = _LEFT
    right: float = WIDTH - _RIGHT


def draw(coverage: Coverage, *, now: datetime) -> Chart:
    """Return the chart of an instance's hours."""
    number = (coverage.end - coverage.start) // HOUR
    step = (WIDTH - _LEFT - _RIGHT) / number
    most = nice_top(max((hour.captured + hour.missing for hour in coverage.hours), default=0))
    ground, full = HEIGHT - _BOTTOM, HEIGHT - _BOTTOM - _TOP

    def height(count: int) -> float:
        return max(_LEAST, round(full * count / most, 1)) if count else 0.0

    bars = []
    for hour in coverage.hours:
        captured, missing = height(hour.captured), height(hour.missing)
        state = state_of(hour)
        bars.append(
            Bar(
                x=round(_LEFT + (hour.start - coverage.start) / HOUR * step + _GAP / 2, 1),
                width=round(step - _GAP, 1),
                captured_y=ground - captured,
                captured_height=captured,
                missing_y=ground - captured - missing,
                missing_height=missing,
                is_open=state == "open",
                says=f"{hour.start:%Y-%m-%d %H:%M} to {hour.end:%H:%M}: {hour.completed} completed, "
                f"{hour.captured} captured, {hour.missing} missing, {state}",
            )
        )
    starts = [coverage.start + n * HOUR for n in range(number)]
    hours = tuple(
        Tick(round(_LEFT + n * step, 1), f"{start:%d %b}" if start.hour == 0 else f"{start:%H:%M}", start.hour == 0)
        for n, start in enumerate(starts)
        if start.hour % 6 == 0
    )
    counts = tuple(Tick(ground - full * part / 2, f"{most * part // 2:,}") for part in (0, 1, 2))
    rows = group_hours(coverage.hours, coverage.start, coverage.end)[::-1]
    said = tuple(describe_row(row, now=now, opened_to=coverage.opened_to) for row in rows)
    return Chart(tuple(bars), hours, counts, said)


def nice_top(most: int) -> int:
    """Return an even number at least as large, of which a person reads halves at a glance.

    >>> [nice_top(most) for most in (0, 3, 9, 12, 107, 180, 4321)]
    [2, 4, 10, 12, 120, 200, 6000]
    """
    power: int = 10 ** (len(str(most)) - 1)
    tops = (tenths * power / 10 for tenths in (10, 12, 16, 20, 30, 40, 60, 80, 100))
    return next(int(top) for top in tops if top >= most and top % 2 == 0)
