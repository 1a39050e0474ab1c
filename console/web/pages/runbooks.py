"""The runbook of each alert rule: the pages of docs/runbooks, which the wheel has too."""

import re
from functools import cache
from pathlib import Path

from aiohttp import web
from markdown_it import MarkdownIt
from markupsafe import Markup
from pydantic import BaseModel, Field

from console.web.render import json_reply, parameters, render_page
from console.web.route import API, NoParameters, Parameters, Route
from console.web.sampling.alert_rules import RULES, AlertRule
from console.web.sampling.findings import Severity

PATH = "/runbooks"
_LINK = re.compile(r"([a-z-]+)\.md")


class RunbookParameters(Parameters):
    """``name`` is the runbook, as its path has it."""

    name: str = Field(max_length=50)


class RuleReply(BaseModel):
    """An alert rule."""

    alert: str
    severity: Severity
    title: str = Field(description="the meaning of the alert in a few words")
    path: str = Field(description="the path of its runbook on this console")


class RulesReply(BaseModel):
    """All alert rules."""

    rules: list[RuleReply]


class RunbookReply(RuleReply):
    """The runbook of a rule."""

    markdown: str


def _describe(rule: AlertRule) -> RuleReply:
    title = _read(rule.runbook).partition("\n")[0].removeprefix("# ")
    return RuleReply(alert=rule.name, severity=rule.severity, title=title, path=f"{PATH}/{rule.runbook}")


def _list_rules() -> RulesReply:
    return RulesReply(rules=[_describe(rule) for rule in RULES])


async def _find(request: web.Request) -> RunbookReply:
    """Return the runbook that the path names."""
    name = (await parameters(request, RunbookParameters)).name
    rule = next((rule for rule in RULES if rule.runbook == name), None)
    if rule is None:
        raise web.HTTPNotFound
    return RunbookReply(**dict(_describe(rule)), markdown=_read(name))


@cache
def _read(name: str) -> str:
    """Return the text of a page: from the wheel, or from docs/ of the repository."""
    folders = Path(__file__).parents[1] / "runbooks", Path(__file__).parents[3] / "docs" / "runbooks"
    return next(file for folder in folders if (file := folder / f"{name}.md").is_file()).read_text()


def render(markdown: str) -> str:
    """Return HTML. Links to other runbooks lead to them; links to pages that the console lacks become plain text."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    is_link = True
    for token in (child for block in tokens for child in block.children or ()):
        if token.type == "link_open":
            link = _LINK.fullmatch(str(token.attrs["href"]))
            is_link = link is not None
            token.attrs = {"href": f"{PATH}/{link[1]}"} if link else {}
        if token.type in {"link_open", "link_close"} and not is_link:
            token.tag = "span"
    return str(parser.renderer.render(tokens, parser.options, {}))


async def view_list(request: web.Request) -> web.Response:
    """Show all rules."""
    await parameters(request, NoParameters)
    data = _list_rules().model_dump()
    return render_page(request, "runbooks.html", data, title="Runbooks", twin=f"{API}{PATH}")


async def twin_list(request: web.Request) -> web.Response:
    """Answer all rules."""
    await parameters(request, NoParameters)
    return json_reply(_list_rules().model_dump(mode="json"))


async def view(request: web.Request) -> web.Response:
    """Show a runbook."""
    runbook = await _find(request)
    content = Markup(render(runbook.markdown.partition("\n")[2]))  # noqa: S704 - the renderer escapes HTML, and the text is our own
    data = {"content": content}
    return render_page(request, "runbook.html", data, title=runbook.title, twin=f"{API}{runbook.path}")


async def twin(request: web.Request) -> web.Response:
    """Answer a runbook."""
    return json_reply((await _find(request)).model_dump(mode="json"))


ROUTES = [
    Route("GET", PATH, view_list, summary="Runbooks"),
    Route("GET", f"{API}{PATH}", twin_list, reply=RulesReply, summary="All alert rules"),
    Route("GET", f"{PATH}/{{name}}", view, parameters=RunbookParameters, summary="Runbook"),
    Route("GET", f"{API}{PATH}/{{name}}", twin, parameters=RunbookParameters, reply=RunbookReply, summary="A runbook"),
]
