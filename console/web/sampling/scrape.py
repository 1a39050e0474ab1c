"""Reads the metrics of ingest and workers: of all addresses of each configured name, bounded in size and time."""

import asyncio
import dataclasses
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import aiohttp
from yarl import URL

from console.web.metrics.counters import CounterSums
from console.web.metrics.distribution import Distribution
from console.web.metrics.exposition import NoMetrics, Reading, make_distribution, read_metrics
from console.web.sampling.reports import ProcessReports
from console.web.sampling.snapshot import INGEST, WORKER, Away, IngestSample, ProcessSample, Totals, WorkerSample
from runtime.health import CONSOLE_AGENT

SCRAPE_SECONDS = 1.5
MOST_BYTES = 4 * 1024 * 1024
MOST_ADDRESSES = 200
DEFAULT_PORT = 9464


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """One address of a configured URL. ``ip`` is empty if the name has none."""

    url: URL
    ip: str
    port: int

    @property
    def text(self) -> str:
        """``host:port``, and the name if it has no address."""
        host = self.ip or self.url.host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


class Scraper:
    """Scrapes all addresses of the URLs at the same time. It never raises: a process that does not answer is away."""

    def __init__(self, find_urls: Callable[[], Sequence[str]], clock: Callable[[], float] = time.time) -> None:
        self._find_urls = find_urls
        self._clock = clock
        self._sums = CounterSums(clock())
        self._bounds: dict[str, tuple[float, ...]] = {}
        self._at = 0.0
        self._spans: dict[str, tuple[float, float]] = {}
        self.reports = ProcessReports()
        self.has_addresses = bool(find_urls())
        self.processes: Mapping[str, ProcessSample] = {}
        """By address, as of the last round."""

    async def scrape(self, http: aiohttp.ClientSession) -> None:
        """Scrape every address once."""
        urls = self._find_urls()
        self.has_addresses = bool(urls)
        names = await asyncio.gather(*map(self._resolve, map(URL, urls)))
        addresses = {address.text: address for name in names for address in name}
        chosen = list(addresses.values())[:MOST_ADDRESSES]
        answers = await asyncio.gather(*(self._read(http, address) for address in chosen))
        results = dict(zip((address.text for address in chosen), answers, strict=True))
        for name in names:
            keep_one_family(name, results)
        now = self._clock()
        processes = {text: self._note(text, now, answer) for text, answer in results.items()}
        self.processes = {**self._find_lost_spools(processes), **processes}
        self._sums.forget(now)
        self.reports.keep(self.processes)

    @property
    def totals(self) -> Totals:
        """The increases of all counters since this console started."""
        distributions = {
            key: make_distribution(self._bounds[key[0]], values)
            for key, values in self._sums.sums.items()
            if len(values) > 1 and len(values) == len(self._bounds[key[0]]) + 2
        }
        counts = {key: values[0] for key, values in self._sums.sums.items() if len(values) == 1}
        return Totals(at=self._at, counts=counts, distributions=distributions, spans=dict(self._spans))

    async def _resolve(self, url: URL) -> Sequence[Address]:
        port = url.explicit_port or DEFAULT_PORT
        try:
            async with asyncio.timeout(SCRAPE_SECONDS):
                found = await asyncio.get_running_loop().getaddrinfo(url.host or "", port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError):
            return [Address(url, "", port)]
        return [Address(url, str(ip), port) for ip in dict.fromkeys(info[4][0] for info in found)]

    async def _read(self, http: aiohttp.ClientSession, address: Address) -> Reading | str:
        """Return the numbers of a process, or the reason why it has none."""
        if not address.ip:
            return f"the name {address.url.host} has no address: no process runs, or the name is wrong"
        host = f"[{address.ip}]" if ":" in address.ip else address.ip
        url = URL(f"{address.url.scheme}://{host}:{address.port}/metrics")
        options: Any = {
            "headers": {
                "Host": f"{address.url.host}:{address.port}",
                "Accept-Encoding": "identity",
                "User-Agent": CONSOLE_AGENT,
            },
            "server_hostname": address.url.host if address.url.scheme == "https" else None,
            "allow_redirects": False,
        }
        try:
            async with asyncio.timeout(SCRAPE_SECONDS):
                async with http.get(url, **options) as response:
                    reading = read_metrics(await _read_text(response))
                await self.reports.read(http, address.text, reading.started_at, url.with_path("/settings"), options)
                return reading
        except TimeoutError:
            return f"no answer within {SCRAPE_SECONDS} s: look at its load and at the network"
        except NoMetrics as exc:
            return f"/metrics is not readable ({exc}): check ACKSTREAM_CONSOLE_SCRAPE"
        except (aiohttp.ClientError, OSError, UnicodeDecodeError):
            return "the connection is refused or broken: look whether the process runs"

    def _note(self, text: str, now: float, answer: Reading | str) -> ProcessSample:
        before = self.processes.get(text)
        since = before.since if before is not None and before.is_up is not isinstance(answer, str) else now
        if isinstance(answer, str):
            return _mark_away(before or ProcessSample(text, since), Away(answer, since))
        earliest = self._sums.add(text, answer.started_at, now, answer.counters)
        if earliest is not None:
            self._extend_span(INGEST if answer.is_a("ingest") else WORKER, earliest, now)
        self._bounds |= answer.bounds
        self._at = now
        return make_sample(text, since, now, answer)

    def _extend_span(self, part: str, earliest: float, now: float) -> None:
        since, until = self._spans.get(part, (now, 0.0))
        self._spans[part] = (min(since, earliest) if until == now else earliest, now)

    def _find_lost_spools(self, processes: Mapping[str, ProcessSample]) -> Mapping[str, ProcessSample]:
        """Return processes whose address has gone although their spool holds entries, until a new process starts."""
        if any(type(process) is IngestSample and text not in self.processes for text, process in processes.items()):
            return {}
        now = self._clock()
        lost = {}
        for text, process in self.processes.items():
            if text not in processes and isinstance(process, IngestSample) and process.spool_entries:
                reason = "its address has gone, and its spool holds entries: start it again on the same data folder"
                lost[text] = _mark_away(process, process.away or Away(reason, now))
        return lost


async def _read_text(response: aiohttp.ClientResponse) -> str:
    if response.status != 200:  # noqa: PLR2004 - OK
        raise NoMetrics(f"answer {response.status}")
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MOST_BYTES:
            raise NoMetrics(f"more than {MOST_BYTES:,} bytes")
    return body.decode()


def keep_one_family(name: Sequence[Address], results: dict[str, Reading | str]) -> None:
    """Drop the addresses of one family if those of the other answer: they are the same processes."""
    families = [[address.text for address in name if (":" in address.ip) is is_v6] for is_v6 in (False, True)]
    answering = [sum(isinstance(results.get(text), Reading) for text in family) for family in families]
    if all(families) and any(answering):
        for text in families[0] if answering[1] > answering[0] else families[1]:
            results.pop(text, None)


def _mark_away(before: ProcessSample, away: Away) -> ProcessSample:
    return dataclasses.replace(before, since=away.since, away=away)


def make_sample(text: str, since: float, now: float, reading: Reading) -> ProcessSample:
    """Return the numbers of an ingest process or a worker."""
    if reading.is_a("ingest"):
        answers: Distribution = reading.distributions("answer").get("", Distribution())
        down = [fault for fault, value in reading.labelled("ackstream_redis_down").items() if value]
        return IngestSample(
            address=text,
            since=since,
            scraped_at=now,
            read_at=reading.gauge("ackstream_metrics_read_timestamp_seconds") or None,
            answers=reading.counts("answers"),
            answer_seconds=answers,
            redis_fault=down[0] if down else None,
            redis_durable=_flag(reading.gauge("ackstream_redis_durable")),
            memory_share=reading.gauge("ackstream_redis_memory_ratio"),
            spool_entries=int(reading.gauge("ackstream_spool_entries") or 0),
            spool_bytes=int(reading.gauge("ackstream_spool_bytes") or 0),
            spool_limit=int(reading.gauge("ackstream_spool_limit_bytes") or 0) or None,
            spool_oldest_seconds=reading.gauge("ackstream_spool_oldest_seconds") or 0.0,
            spool_foreign=int(reading.gauge("ackstream_spool_foreign_entries") or 0),
            connections=int(reading.gauge("ackstream_connections") or 0),
            verified=reading.counts("verified"),
            refused=reading.counts("refused"),
        )
    blocked = reading.labelled("ackstream_retention_blocked_entries")
    return WorkerSample(
        address=text,
        since=since,
        scraped_at=now,
        handled=reading.counts("handled"),
        failures=reading.counts("failed"),
        dead=reading.counts("dead"),
        handle_seconds=reading.distributions("handle"),
        trim_failures=sum(reading.counts("trim-failures").values()),
        missing=sum(reading.counts("missing").values()),
        retention_blocked={group: int(entries) for group, entries in blocked.items()},
        waiting=frozenset(group for group, away in reading.labelled("ackstream_target_away").items() if away),
        full=frozenset(group for group, full in reading.labelled("ackstream_group_paused").items() if full),
    )


def _flag(value: float | None) -> bool | None:
    return None if value is None else bool(value)
