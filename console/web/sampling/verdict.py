"""The sentences on top of the Overview: do statuses flow, since when, is anything lost, the next step. No I/O."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from console.format import NODE_STEP, format_away
from console.web.filters import format_duration, format_number
from console.web.sampling.alert_rules import EVERY_INGEST
from console.web.sampling.findings import FiringAlert, Severity, Tone, Verdict, WebhookCount
from console.web.sampling.rates import Rates
from console.web.sampling.snapshot import BACKLOG, Away, GroupSample, Snapshot

DAY = 86_400.0
SLACK_SECONDS = 120.0
"""The history counts from the start of a minute."""

NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
WHY_PAUSED = {
    "failing": "because nearly every call of its handler fails; the workers try again by themselves",
    "dead-letters": "because it has too many dead letters: replay or discard some",
    "gone": "because its target refuses all events: resume the group once it accepts them",
    "operator": "by hand: resume the group to continue",
    BACKLOG: "because its retries and dead letters use too much memory: replay or discard some",
}


@dataclass(frozen=True, slots=True)
class _Problem:
    """Something that is wrong, as a title and sentences. ``stops_flow`` if nothing flows because of it."""

    title: str
    sentences: tuple[str, ...]
    tone: Tone = Tone.WARN
    group: str | None = None
    stops_flow: bool = False


def make_verdict(now: Snapshot, rates: Rates, alerts: Sequence[FiringAlert], count: WebhookCount | None) -> Verdict:
    """Judge a moment. The tone is OK only if no alert fires and every part answers."""
    problems = list(_find_problems(now, rates, alerts))
    flow, kept = _describe_flow(now, rates), _describe_kept(now, count, alerts)
    if not problems:
        return Verdict(Tone.OK, flow, tuple(map(_finish, kept)))
    worst = min(problems, key=lambda problem: problem.tone is not Tone.BAD)
    others = len(problems) - 1
    more = (f"{_spell(others)} more {'problem needs' if others == 1 else 'problems need'} a look",) if others else ()
    title = worst.title if worst.stops_flow else f"{flow} {worst.title}"
    sentences = tuple(map(_finish, (*worst.sentences, *kept, *more)))
    return Verdict(worst.tone, title, sentences, worst.group)


def _describe_flow(now: Snapshot, rates: Rates) -> str:
    if rates.stored or rates.webhooks:
        return "Statuses are flowing."
    if now.redis.newest_at is None:
        return "No status has arrived yet."
    return f"No status has arrived for {_age(now, now.redis.newest_at)}."


def _describe_kept(now: Snapshot, count: WebhookCount | None, alerts: Sequence[FiringAlert]) -> tuple[str, ...]:
    """Say how many webhooks were kept, without "all" if some may be missing."""
    if count is None or not count.number:
        return ()
    seconds = now.taken_at - count.since
    is_day = abs(seconds - DAY) < SLACK_SECONDS
    span = "24 hours" if is_day else _age(now, count.since)
    is_all = count.is_exact and not any(alert.name == "AckstreamMissingEntries" for alert in alerts)
    webhooks = f"{format_number(count.number)} webhook{'' if count.number == 1 else 's'}"
    verb = "was" if count.number == 1 else "were"
    return (f"{'All ' if is_all and count.number > 1 else ''}{webhooks} of the last {span} {verb} kept",)


def _find_problems(now: Snapshot, rates: Rates, alerts: Sequence[FiringAlert]) -> Iterator[_Problem]:
    """Yield the problems, the most important first within a tone. Each is named once."""
    paused = [group for group in now.groups.values() if group.registered and group.paused]
    named = {f"AckstreamGroupPaused {group.name}" for group in paused}
    if now.is_scraping and not any(process.is_up for process in now.ingest):
        named |= {f"AckstreamDown {process.address}" for process in (*now.ingest, *now.silent)}
        named.add(f"AckstreamDown {EVERY_INGEST}")
        yield _describe_ingest_away(now, rates)
    if now.redis.away is not None:
        named.add("AckstreamSpoolInUse")
    yield from _find_redis_problem(now)
    for alert in alerts:
        if not named & {alert.name, f"{alert.name} {alert.subject}"}:
            named.add(f"{alert.name} {alert.subject}")
            yield _describe_alert(now, alert)
    if paused:
        yield _describe_paused(now, paused)
    waiting = [group for name, group in now.groups.items() if name in now.waiting and not group.paused]
    if waiting and not now.misses_database:
        yield _describe_waiting(waiting)
    if now.database is not None and now.misses_database:
        waits = "Groups that write to it wait, and nothing is lost."
        yield _Problem(
            "The database does not answer.", (_silence(now, now.database.since), _capital(now.database.reason), waits)
        )
    for process in (*now.ingest, *now.workers, *now.silent):
        if process.away is not None and f"AckstreamDown {process.address}" not in named:
            sentences = (_silence(now, process.since), _capital(process.away.reason))
            yield _Problem(f"{process.address} does not answer.", sentences)


def _find_redis_problem(now: Snapshot) -> Iterator[_Problem]:
    if now.redis.away is not None:
        yield _describe_redis_away(now, now.redis.away)
    elif now.redis.away_shards:
        yield _describe_node_away(now)


def _describe_ingest_away(now: Snapshot, rates: Rates) -> _Problem:
    since = min((process.since for process in (*now.ingest, *now.silent)), default=now.started_at)
    if rates.stored:
        check = "Statuses still arrive, so check ACKSTREAM_CONSOLE_SCRAPE and the network"
        return _Problem("No ingest process answers the console.", (_silence(now, since), check), Tone.BAD)
    return _Problem(
        "Ingest does not answer.",
        (
            _silence(now, since),
            "Webhooks are refused; Vonage repeats them for 24 hours and then drops them",
            "Look at the log of ingest, and start it on the same data folder",
        ),
        Tone.BAD,
        stops_flow=True,
    )


def _describe_redis_away(now: Snapshot, away: Away) -> _Problem:
    if now.spooled:
        waiting = "1 webhook waits" if now.spooled == 1 else f"{format_number(now.spooled)} webhooks wait"
        safe = f"Nothing is lost: {waiting} in the spool on ingest's disk, and groups get them when Redis is back"
    else:
        safe = "Nothing is lost: ingest keeps new webhooks in its spool until Redis is back"
    return _Problem("Redis does not answer.", (_silence(now, away.since), safe, away.reason), stops_flow=True)


def _describe_node_away(now: Snapshot) -> _Problem:
    sentences = (
        _silence(now, now.redis.away_shards_since or now.taken_at),
        "Ingest uses the other shards, and the numbers below are theirs",
        _capital(NODE_STEP),
    )
    return _Problem(f"{format_away(now.redis.away_shards)}.", sentences)


def _describe_alert(now: Snapshot, alert: FiringAlert) -> _Problem:
    tone = Tone.BAD if alert.severity is Severity.PAGE else Tone.WARN
    group = alert.subject if alert.subject in now.groups else None
    return _Problem(
        f"{alert.summary}.", (f"It has been so for {_age(now, alert.since)}", alert.risk, alert.next_step), tone, group
    )


def _describe_paused(now: Snapshot, paused: Sequence[GroupSample]) -> _Problem:
    first = max(paused, key=lambda group: group.outstanding or 0)
    reason = first.paused.reason if first.paused else ""
    since = first.paused.since if first.paused else None
    span = "" if since is None else f" for {_age(now, since)}"
    why = WHY_PAUSED.get(reason, f"for the reason {reason}")
    return _Problem(
        f"{_spell(len(paused))} group{' is' if len(paused) == 1 else 's are'} paused.",
        (f"{first.name} has been paused{span} {why}", f"Nothing is lost: {_count_waiting(paused)}"),
        group=first.name,
    )


def _describe_waiting(waiting: Sequence[GroupSample]) -> _Problem:
    first = max(waiting, key=lambda group: group.outstanding or 0)
    return _Problem(
        f"{_spell(len(waiting))} group{' waits for its target' if len(waiting) == 1 else 's wait for their targets'}.",
        (
            f"The target of {first.name} is away; its workers try again by themselves",
            f"Nothing is lost: {_count_waiting(waiting)}",
            "/ready of its workers and the log line handler.unavailable name the reason",
        ),
        group=first.name,
    )


def _count_waiting(groups: Sequence[GroupSample]) -> str:
    waits = [group.outstanding for group in groups]
    known = [number for number in waits if number is not None]
    if len(known) < len(waits):
        return "its statuses wait"
    total = sum(known)
    return "1 status waits" if total == 1 else f"{format_number(total) if total else 'no'} statuses wait"


def _silence(now: Snapshot, since: float) -> str:
    return f"It has not answered for {_age(now, since)}"


def _age(now: Snapshot, since: float) -> str:
    return format_duration(max(now.taken_at - since, 1.0))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _finish(sentence: str) -> str:
    return sentence if sentence.endswith(".") else f"{sentence}."


def _spell(number: int) -> str:
    return NUMBERS[number] if number < len(NUMBERS) else format_number(number)
