"""docs/benchmarks.md shows the results that are stored, and the guard reports figures above the accepted ones."""

import orjson
import pytest

from bench.rig.figures import Curve, Figure
from bench.rig.results import Result
from bench.scenarios import guard
from deploy.docs import results
from deploy.docs.pictures import growth
from deploy.docs.pictures.canvas import THEMES


def test_the_page_shows_the_stored_results() -> None:
    """The tables equal the results in deploy/docs/data/bench/; else run `python -m deploy.docs.results`."""
    page = results.PAGE.read_text()

    assert page == results.render(page)
    assert set(results.names(page)) <= {*results.read_results(), results.OTHERS}


def test_another_result_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of a comparison has the ratio of its file, and a new comparison gets a table."""
    stored = results.read_results()
    name, result = next((name, result) for name, result in stored.items() if result.get("ratios"))
    result["ratios"][0]["ratio"] = 12.34
    monkeypatch.setattr(results, "read_results", lambda: {**stored, name: result, "newest": result})

    page = results.render(results.PAGE.read_text())

    assert page.count("| 12.3 (") == 2
    assert "### newest" in page


def test_figures_and_curves_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result without ratios gets a table for its figures, and a table and a panel of the picture for each curve."""
    curve = Curve("shards", "CPU us/event", {"worker": {0: [11.0], 10: [22.0, 33.0, 44.0]}}, is_log=True)
    result = Result(notes=["note"], figures=[Figure("p99", "ms", 8.0, [1.0, 2.0, 6.0])], curves=[curve])
    stored = {"newest": {"source": {"date": "today", "commit": "c", "machine": "m", "rounds": result.rounds}}}
    stored["newest"] |= orjson.loads(orjson.dumps(result.as_json()))
    monkeypatch.setattr(results, "read_results", lambda: stored)
    monkeypatch.setattr(growth, "read_results", lambda: stored)

    page = results.render("<!-- results of newest, written by `make bench` -->\n<!-- end of results -->")
    picture = growth.draw(THEMES[0]).render()

    assert "today, commit c, m, one round. Note." in page
    assert "| p99 | 2 (1 to 6) ms | at most 8 |" in page
    assert "| CPU us/event, by shards | 0 | 10 |\n| --- | --- | --- |\n| worker | 11 | 33 |" in page
    assert "CPU us/event, by shards" in picture
    assert picture.count("<circle") == 2


def test_the_guard_never_passes_without_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that is misspelled, or that cannot be measured, ends the guard; by default it measures the others."""
    assert guard.choose_parts(["cpu"]) == ["cpu"]
    monkeypatch.setattr(guard, "has_counter", lambda: False)

    assert guard.choose_parts([]) == ["cpu"]
    for name, reason in (("instruction", "write instructions or cpu"), ("instructions", "install valgrind")):
        with pytest.raises(SystemExit, match=reason):
            guard.choose_parts([name])


@pytest.mark.parametrize(("factor", "is_excess"), [(0.5, False), (1.0, False), (1.07, False), (1.09, True)])
def test_the_guard_reports_a_figure_above_its_limit(factor: float, is_excess: bool) -> None:
    """Instructions may rise by 8 %; a figure that was never accepted is not reported."""
    accepted = orjson.loads(guard.FILE.read_bytes())
    name, value = next(iter(accepted["instructions"].items()))

    excess = guard.find_excess(accepted, "instructions", name, value * factor)

    assert (excess is not None) == is_excess
    assert guard.find_excess(accepted, "instructions", "another", value) is None
