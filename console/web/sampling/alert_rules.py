"""The alerts: the only list of them. The rules for Prometheus, their page and the console's own alerts come from it.

Each rule has its condition twice, as an expression of Prometheus and as a function of the console's samples, with the
same limits. A test feeds both with the same numbers.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from console.web.sampling.findings import Severity
from console.web.sampling.rates import RecentHour

ERROR_SHARE = 0.01
MEMORY_SHARE = 0.85
SPOOL_SHARE = 0.9
OLDEST_SECONDS = 60
WRONG_SIGNATURES = 10
TRIM_FAILURES = 2
ACCOUNT_WEBHOOKS = 60
EVERY_INGEST = "ingest"

Find = Callable[[RecentHour], Iterable[str]]


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One alert. ``{subject}`` in its texts is the group, account or process that it is about."""

    name: str
    severity: Severity
    hold_seconds: int
    """The condition must hold for this long."""
    label: str
    """The label of Prometheus with the subject, or an empty string."""
    expression: str
    find: Find
    """Returns the subjects for which the condition holds; an empty string for an alert without a subject."""
    summary: str
    risk: str
    next_step: str

    @property
    def runbook(self) -> str:
        """The name of its page in docs/runbooks: ``server-errors`` for AckstreamServerErrors."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", self.name.removeprefix("Ackstream")).lower()


def _over(values: Mapping[str, float], limit: float) -> list[str]:
    return [label for label, value in values.items() if value > limit]


def _if(condition: object) -> list[str]:
    return [""] if condition else []


def _find_down(hour: RecentHour) -> list[str]:
    now = hour.newest
    has_ingest = any(process.is_up for process in now.ingest)
    every = [EVERY_INGEST] if now.is_scraping and not has_ingest else []
    return [process.address for process in (*now.ingest, *now.workers, *now.silent) if not process.is_up] + every


def _find_errors(hour: RecentHour) -> list[str]:
    answers = hour.increase("answers", 300)
    errors = sum(number for answer, number in answers.items() if answer.startswith("5"))
    return _if(errors > ERROR_SHARE * sum(answers.values()))


def _find_full_spools(hour: RecentHour) -> list[str]:
    return [
        process.address
        for process in hour.newest.ingest
        if process.is_up
        and process.spool_limit
        and process.spool_bytes
        and (
            process.spool_bytes > SPOOL_SHARE * process.spool_limit
            or hour.predict_spool(process.address, 600, 3600) > process.spool_limit
        )
    ]


def _find_rising(hour: RecentHour) -> list[str]:
    counted = hour.increase("dead", 900)
    return [
        name
        for name, group in hour.newest.groups.items()
        if group.registered and (hour.count_new_dead_letters(name, 900) > 0 or counted.get(name, 0) > 0)
    ]


def _find_silent_accounts(hour: RecentHour) -> list[str]:
    before, lately = hour.increase("verified", 3600, ago=900), hour.increase("verified", 900)
    return [name for name in _over(before, ACCOUNT_WEBHOOKS) if name and not lately.get(name)]


def _find_groups(hour: RecentHour, condition: Callable[..., object]) -> list[str]:
    groups = hour.newest.groups if hour.newest.redis.away is None else {}
    return [name for name, group in groups.items() if group.registered and condition(group)]


RULES: tuple[AlertRule, ...] = (
    AlertRule(
        "AckstreamDown",
        Severity.PAGE,
        60,
        "instance",
        'max by (instance) (up{job=~"ackstream.*"}) == 0\n'
        f'or label_replace(sum(absent(ackstream_process{{kind="ingest"}})), "instance", "{EVERY_INGEST}", "", "")',
        _find_down,
        "{subject} does not answer",
        "Without any ingest process, webhooks are refused; the provider repeats them for 24 hours and then drops them.",
        "Look whether it runs, and at the end of its log. Start it on the same data folder: its spool is there.",
    ),
    AlertRule(
        "AckstreamServerErrors",
        Severity.PAGE,
        120,
        "",
        'sum(rate(ackstream_webhooks_total{answer=~"5.."}[5m]))\n'
        f"/ sum(rate(ackstream_webhooks_total[5m])) > {ERROR_SHARE}",
        _find_errors,
        f"More than {ERROR_SHARE:.0%} of the webhooks are answered with an error (5xx)",
        "Nothing yet: the provider repeats them for 24 hours, and then drops those that are still refused.",
        "Read the lines webhook.refused of ingest's log: each names its reason and the next step.",
    ),
    AlertRule(
        "AckstreamSpoolInUse",
        Severity.WARNING,
        120,
        "instance",
        "ackstream_spool_entries > 0",
        lambda hour: [process.address for process in hour.newest.ingest if process.is_up and process.spool_entries],
        "{subject} keeps webhooks in its spool",
        "Nothing is lost. Handlers get these webhooks only when Redis accepts entries again.",
        "See ackstream_redis_down and /ready of this process: they name what Redis lacks.",
    ),
    AlertRule(
        "AckstreamSpoolFull",
        Severity.PAGE,
        60,
        "instance",
        "ackstream_spool_bytes > 0 and (\n"
        f"  ackstream_spool_bytes > {SPOOL_SHARE} * ackstream_spool_limit_bytes\n"
        "  or predict_linear(ackstream_spool_bytes[10m], 3600) > ackstream_spool_limit_bytes\n"
        ")",
        _find_full_spools,
        "The spool of {subject} is full within an hour",
        "Once it is full, webhooks are refused; the provider repeats them for 24 hours and then drops them.",
        "Restore Redis, or raise ACKSTREAM_SPOOL_BYTES and restart ingest; the spool keeps its entries.",
    ),
    AlertRule(
        "AckstreamNotDurable",
        Severity.WARNING,
        300,
        "",
        "min(ackstream_redis_durable) == 0",
        lambda hour: _if(hour.newest.is_durable is False),
        "Redis does not write each webhook to its disk before it is answered",
        "A power cut or a crash of Redis loses the webhooks of the last moments, although they were answered 200.",
        "Set appendonly yes, appendfsync always and maxmemory-policy noeviction (docs/guarantees.md).",
    ),
    AlertRule(
        "AckstreamRedisMemory",
        Severity.WARNING,
        300,
        "",
        f"max(ackstream_redis_memory_ratio) > {MEMORY_SHARE}",
        lambda hour: _if((hour.newest.memory_share or 0.0) > MEMORY_SHARE),
        f"Redis uses more than {MEMORY_SHARE:.0%} of its memory",
        "Nothing yet. At 95 % webhooks go to the spool, and handlers get no new ones.",
        "Raise maxmemory, lower ACKSTREAM_RETENTION, or see which group keeps old entries: `ackstream groups list`.",
    ),
    AlertRule(
        "AckstreamOldest",
        Severity.WARNING,
        60,
        "group",
        f"ackstream_oldest_seconds > {OLDEST_SECONDS}",
        lambda hour: _find_groups(hour, lambda group: (group.oldest_seconds or 0.0) > OLDEST_SECONDS),
        f"{{subject}}: the oldest status waits longer than {OLDEST_SECONDS} s",
        "Nothing is lost: the stream keeps entries until the group has settled them.",
        "See whether the group is paused or has too few workers, and the duration of its handler's calls.",
    ),
    AlertRule(
        "AckstreamNobodyReads",
        Severity.PAGE,
        120,
        "group",
        "ackstream_outstanding > 0 and on (group) ackstream_live_consumers == 0",
        lambda hour: _find_groups(hour, lambda group: group.outstanding and group.alive == 0),
        "{subject}: no worker reads its statuses",
        "Nothing is lost. Its statuses wait, and the stream grows until Redis is full.",
        "Start a worker with this handler, or remove the group: `ackstream groups drop`.",
    ),
    AlertRule(
        "AckstreamGroupPaused",
        Severity.WARNING,
        60,
        "group",
        "max by (group) (ackstream_group_paused) == 1",
        lambda hour: _find_groups(hour, lambda group: group.paused),
        "{subject} is paused",
        "Nothing is lost: its statuses wait.",
        "`ackstream groups list` shows the reason, or else /ready of a worker: retries and dead letters take too much "
        "memory. A failing target is tried again by itself; other reasons need you.",
    ),
    AlertRule(
        "AckstreamDeadLettersRise",
        Severity.WARNING,
        0,
        "group",
        "delta(ackstream_dead_letters[15m]) > 0\nor sum by (group) (increase(ackstream_dead_letters_total[15m])) > 0",
        _find_rising,
        "{subject}: dead letters are rising",
        "The handler has given up these statuses. They are kept until you replay or discard them.",
        "`ackstream dead-letters list` groups them by error. Correct the cause, replay a sample, then all.",
    ),
    AlertRule(
        "AckstreamWrongSignatures",
        Severity.WARNING,
        0,
        "result",
        'sum by (result) (increase(ackstream_signatures_refused_total{result=~"wrong.*"}[10m])) '
        f"> {WRONG_SIGNATURES}",
        lambda hour: [
            result for result in _over(hour.increase("refused", 600), WRONG_SIGNATURES) if result.startswith("wrong")
        ],
        "Webhooks have a wrong signature ({subject})",
        "If they are the provider's, their statuses are missing; the quarantine keeps a copy of each.",
        "Compare ACKSTREAM_SIGNATURE_SECRETS with the provider's dashboard, then `ackstream quarantine list`.",
    ),
    AlertRule(
        "AckstreamMissingEntries",
        Severity.PAGE,
        0,
        "",
        "sum(increase(ackstream_missing_entries_total[1h])) > 0",
        lambda hour: _if(sum(hour.increase("missing", 3600).values()) > 0),
        "Entries have left the stream that no worker has removed",
        "Groups that had not handled them have lost them. Their payloads may still be in the archive or a backup.",
        "A client deletes entries, or Redis restarted without the last ones: see retention.missing in workers' logs.",
    ),
    AlertRule(
        "AckstreamTrimmingStalled",
        Severity.WARNING,
        900,
        "",
        f"sum(increase(ackstream_trim_failures_total[15m])) > {TRIM_FAILURES}\n"
        "or sum(ackstream_retention_blocked_entries) > 0",
        lambda hour: _if(
            sum(hour.increase("trim-failures", 900).values()) > TRIM_FAILURES
            or any(sum(process.retention_blocked.values()) for process in hour.newest.workers if process.is_up)
        ),
        "Entries stay on the stream beyond their retention",
        "Nothing is lost. The stream grows until Redis is full.",
        "Start workers for the group of ackstream_retention_blocked_entries, or free the archive's disk (log "
        "retention.failed).",
    ),
    AlertRule(
        "AckstreamAccountSilent",
        Severity.WARNING,
        0,
        "account",
        'sum by (account) (increase(ackstream_webhooks_verified_total{account!=""}[1h] offset 15m)) '
        f"> {ACCOUNT_WEBHOOKS}\n"
        'unless sum by (account) (increase(ackstream_webhooks_verified_total{account!=""}[15m])) > 0',
        _find_silent_accounts,
        "Account {subject} has sent nothing for 15 minutes, but it did before",
        "If messages are still sent, their statuses are missing.",
        "Check the status URL of the account in the provider's dashboard, and signatures refused for it.",
    ),
)
