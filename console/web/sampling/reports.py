"""Reads the reports of ingest and workers: their settings in force, and the handlers of groups.

A process is asked once, because its settings do not change while it runs. An earlier version has no report.
"""

from collections.abc import Mapping
from typing import Any

import aiohttp
from pydantic import BaseModel, ValidationError
from yarl import URL

from stream.process_report import SettingLine

MOST_BYTES = 256 * 1024


class ProcessReport(BaseModel):
    """The settings of a process, and the targets of its groups."""

    settings: tuple[SettingLine, ...] = ()
    handlers: Mapping[str, str] = {}


class ProcessReports:
    """The reports by address, each of the process that started at a time."""

    def __init__(self) -> None:
        self._reports: dict[str, tuple[float, ProcessReport | None]] = {}

    def find(self, address: str) -> ProcessReport | None:
        """Return the report of the process at this address; None if it has none."""
        return self._reports.get(address, (0.0, None))[1]

    async def read(
        self, http: aiohttp.ClientSession, address: str, started_at: float, url: URL, options: Mapping[str, Any]
    ) -> None:
        """Ask a process for its report, unless it was asked since it started."""
        if self._reports.get(address, (-1.0, None))[0] == started_at:
            return
        async with http.get(url, **options) as response:
            body = await response.content.read(MOST_BYTES) if response.status == 200 else b"{}"  # noqa: PLR2004 - OK
        try:
            report = ProcessReport.model_validate_json(body)
        except ValidationError:
            report = ProcessReport()
        self._reports[address] = (started_at, report if report.settings else None)

    def find_handlers(self) -> Mapping[str, str]:
        """Return the targets of all groups by name; those of several workers with commas between them."""
        targets: dict[str, set[str]] = {}
        for _, report in self._reports.values():
            for group, target in report.handlers.items() if report else ():
                targets.setdefault(group, set()).add(target)
        return {group: ", ".join(sorted(of_group)) for group, of_group in targets.items()}

    def keep(self, addresses: Mapping[str, Any]) -> None:
        """Forget all other addresses."""
        self._reports = {text: report for text, report in self._reports.items() if text in addresses}
