"""The report of coverage names what is below a bar, and the reasons in CONTRIBUTING.md are for modules that exist."""

from deploy.coverage_bars import REASON, ROOT, find_low_totals, find_missing_reasons, read_contributing

LOW = {"num_statements": 10, "covered_lines": 5, "num_branches": 4, "covered_branches": 4}
HIGH = {"num_statements": 10, "covered_lines": 10, "num_branches": 0, "covered_branches": 0}


def test_a_bar_that_is_missed_is_named() -> None:
    """Lines and branches have a bar each."""
    assert find_low_totals(LOW) == ["50.0 % of lines are covered; the bar is 92.0 %"]
    assert find_low_totals(HIGH) == []


def test_a_low_module_needs_a_reason() -> None:
    """A row in CONTRIBUTING.md is a reason; a module above the bar needs none."""
    files = {"a/low.py": LOW, "a/high.py": HIGH}

    assert find_missing_reasons(files, ["a/low.py"]) == []
    assert [fault.partition(":")[0] for fault in find_missing_reasons(files, [])] == ["a/low.py"]


def test_a_reason_for_a_module_that_is_gone_is_named() -> None:
    """A reason for a module that is gone fails, so the list does not outlive the code."""
    assert find_missing_reasons({}, ["a/gone.py"]) == ["CONTRIBUTING.md gives a reason for a/gone.py, which is gone"]


def test_each_reason_is_for_a_module_that_exists() -> None:
    """The test finds a renamed module without a measurement."""
    rows = REASON.findall(read_contributing())
    assert rows
    assert [row for row in rows if not (ROOT / row).is_file()] == []
