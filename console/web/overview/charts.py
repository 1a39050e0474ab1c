"""The three charts: webhooks and events per second, time to answer, and outstanding statuses."""

from collections.abc import Iterable, Mapping, Sequence

from console.web.route import Json
from console.web.sampling.findings import Series
from console.web.sampling.snapshot import GroupSample

Values = Sequence[float | None]

TABLE_ROWS = 60


def draw_charts(series: Series, groups: Mapping[str, GroupSample]) -> Json:
    """Return the lines of each chart, with the times that they share. ``tone`` names the look of a line."""
    lines = {
        "rate": [
            _line("Webhooks", "", series.values.get("webhooks")),
            _line("Events handled", "b", series.values.get("handled")),
        ],
        "answer": [
            _line("Median", "d", series.values.get("answer_p50")),
            _line("99 %", "", series.values.get("answer_p99")),
        ],
        "outstanding": _outstanding(series, groups),
    }
    empty = [None] * len(series.times)
    for line in (line for chart in lines.values() for line in chart):
        line["values"] = line["values"] or empty
    return {"step_seconds": series.step, "times": list(series.times), "lines": lines}


def _line(label: str, tone: str, values: Values | None) -> Json:
    return {"label": label, "tone": tone, "values": list(values or ())}


def _outstanding(series: Series, groups: Mapping[str, GroupSample]) -> list[Json]:
    """Return the group with the most outstanding statuses, and the sum of all others."""
    by_group = {
        name: values
        for key, values in series.values.items()
        if (name := key.removeprefix("outstanding:")) != key and name in groups
    }
    if not by_group:
        return [_line("All groups", "c", None)]
    first = max(by_group, key=lambda name: (groups[name].outstanding or 0, _peak(by_group[name])))
    others = [values for name, values in by_group.items() if name != first]
    lines = [_line(first, "c", by_group[first])]
    if others:
        label = next(name for name in by_group if name != first) if len(others) == 1 else "Others"
        lines.append(_line(label, "d", _add_up(others)))
    return lines


def _peak(values: Values) -> float:
    return max((value for value in values if value is not None), default=0.0)


def _add_up(series: Iterable[Values]) -> Values:
    return [
        sum(value for value in point if value is not None) if any(value is not None for value in point) else None
        for point in zip(*series, strict=True)
    ]


def tabulate(charts: Json) -> list[Json]:
    """Return the charts as rows, the newest first: at most TABLE_ROWS, evenly spread, none without a number."""
    times = charts["times"]
    stride = max(-(-len(times) // TABLE_ROWS), 1)
    places = range(len(times) - 1, -1, -stride)
    columns = [line["values"] for chart in charts["lines"].values() for line in chart]
    rows = [{"at": times[place], "numbers": [column[place] for column in columns]} for place in places]
    return [row for row in rows if any(number is not None for number in row["numbers"])]
