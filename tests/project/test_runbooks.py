"""The runbooks: one page for each alert rule, and everything that a page names exists."""

import re
import shlex
from collections.abc import Iterator

import pytest
import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from console.main import make_app
from console.web.sampling.alert_rules import RULES, AlertRule
from console.web.settings import ConsoleSettings
from deploy.docs import metrics_page
from deploy.docs.folders import MODULES, ROOT
from ingest.settings import IngestSettings
from worker.settings import WorkerSettings

FOLDER = ROOT / "docs" / "runbooks"
PAGES = {rule.runbook: FOLDER / f"{rule.runbook}.md" for rule in RULES}
HEADINGS = ["Meaning", "Users notice", "First look", "Causes", "Repair", "The end", "Avoid"]
MENU = (ROOT / "console" / "web" / "templates" / "base.html").read_text()


def test_each_rule_has_a_page_and_each_page_a_rule() -> None:
    """The folder has the page of each rule and the list of them, and no other page."""
    assert {path.name for path in FOLDER.iterdir()} == {"index.md", *(path.name for path in PAGES.values())}


def test_the_list_has_each_rule_once() -> None:
    """The first page names each rule with its severity and its page, in the order of the rules."""
    rows = re.findall(
        r"^\| (Ackstream\w+) \| (\w+) \| \[.+\]\((.+)\) \|$", (FOLDER / "index.md").read_text(), re.MULTILINE
    )

    assert rows == [(rule.name, str(rule.severity), f"{rule.runbook}.md") for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.runbook)
def test_a_page_is_about_its_rule(rule: AlertRule) -> None:
    """The page names the alert and its severity, and answers the same questions as the others, in the same order."""
    page = PAGES[rule.runbook].read_text()

    assert f"\nAlert `{rule.name}`, severity {rule.severity}.\n" in page
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == HEADINGS


def test_every_command_exists() -> None:
    """Each `ackstream …` of a page is a command with such options; those in blocks have all their arguments."""
    assert [fault for text, is_whole in find_commands() if (fault := find_fault(text, is_whole=is_whole))] == []


def find_commands() -> Iterator[tuple[str, bool]]:
    """Yield each command, and whether it must be whole."""
    for page in FOLDER.glob("*.md"):
        text = page.read_text()
        for block in re.findall(r"```\w+\n(.*?)```", text, re.DOTALL):
            yield from ((line, True) for line in block.splitlines() if line.startswith("ackstream "))
        for code in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            if command := re.search(r"(?:^|console )(ackstream [a-z].*)", code, re.DOTALL):
                yield command[1], False


def find_fault(text: str, *, is_whole: bool) -> str:
    """Return a sentence for a command line that cannot be parsed."""
    command: TyperCommand | TyperGroup = typer.main.get_group(make_app())
    words = shlex.split(text)[1:]
    while isinstance(command, TyperGroup) and words:
        member = command.commands.get(words.pop(0))
        if not isinstance(member, TyperCommand | TyperGroup):
            return f"{text}: no such command"
        command = member
    options = {option for parameter in command.params for option in parameter.opts}
    if unknown := {word for word in words if word.startswith("--")} - options:
        return f"{text}: no option {unknown.pop()}"
    try:
        command.make_context("ackstream", words)
    except TyperException as exc:
        return f"{text}: {exc}" if is_whole else ""
    return ""


def test_a_wrong_command_is_found() -> None:
    """A command or an option that does not exist is reported, and a missing argument in a block."""
    assert find_fault("ackstream groups lst", is_whole=True)
    assert find_fault("ackstream groups list --all", is_whole=True)
    assert find_fault("ackstream groups resume", is_whole=True)
    assert not find_fault("ackstream groups resume", is_whole=False)


def test_every_metric_exists() -> None:
    """Each name of a metric is one that a process has; a pattern of grep matches some for each alternative."""
    exported = {name for metric in metrics_page.names() for name in (metric, metric.removesuffix("_total"))}
    unknown = {
        f"{page.name}: {name}"
        for page in PAGES.values()
        for name in find_metrics(page.read_text())
        if name not in exported and not any(name.endswith("_") and metric.startswith(name) for metric in exported)
    }
    assert unknown == set()


def find_metrics(text: str) -> Iterator[str]:
    """Yield the names of metrics; `ackstream_(a|b)_total` is two."""
    for prefix, choices, suffix in re.findall(r"(ackstream_)\(([a-z_|]+)\)(\w*)", text):
        yield from (f"{prefix}{choice}{suffix}" for choice in choices.split("|"))
    yield from re.findall(r"ackstream_[a-z_]+", re.sub(r"ackstream_\(.*", "", text))


def test_every_setting_exists() -> None:
    """Each `ACKSTREAM_…` is a setting of a process."""
    settings = {
        f"ACKSTREAM_{name.upper()}"
        for model in (IngestSettings, WorkerSettings, ConsoleSettings)
        for name in model.model_fields
    }
    names = {name for page in FOLDER.glob("*.md") for name in re.findall(r"ACKSTREAM_[A-Z_]+", page.read_text())}
    assert names - settings == set()


def test_every_log_line_exists() -> None:
    """Each name of a log line, such as `handler.failed`, is one that the code writes."""
    source = "\n".join((ROOT / module).read_text() for module in MODULES)
    names = {name for page in PAGES.values() for name in re.findall(r"`([a-z]+\.[a-z_]+)`", page.read_text())}
    assert names
    assert {name for name in names if f'"{name}"' not in source} == set()


def test_every_page_of_the_console_exists() -> None:
    """Each page that follows `Console:` is in the console's menu."""
    sentences = [
        sentence
        for page in PAGES.values()
        for sentence in re.findall(r"Console: (.+?)\.?$", page.read_text(), re.MULTILINE)
    ]
    names = {name for sentence in sentences for name in re.findall(r"\*([A-Z][a-z ]+)\*", sentence)}
    assert names
    assert {name for name in names if f'"{name}"' not in MENU} == set()


def test_every_link_leads_to_a_page() -> None:
    """Each link of a runbook is a file of docs/."""
    links = {(page, link) for page in FOLDER.glob("*.md") for link in re.findall(r"\]\(([^)#]+)", page.read_text())}
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).is_file()] == []
