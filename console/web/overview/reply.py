"""The JSON of the Overview, for the description of the API. Unknown numbers are null, never 0."""

from typing import Literal

from pydantic import BaseModel, Field

Tone = Literal["ok", "warn", "bad", "off"]


class VerdictReply(BaseModel):
    """The answer to: do statuses flow, since when, is anything lost, and the next step."""

    tone: Literal["ok", "warn", "bad"]
    title: str
    sentences: list[str]
    group: str | None = Field(description="the group to look at first")


class ProviderReply(BaseModel):
    """The provider, as the last 10 seconds show it."""

    per_second: float | None = Field(description="webhooks that it sends")
    accounts: int = Field(description="accounts that sign them")
    signed_share: float | None = Field(description="share of the accepted webhooks with a valid signature, 0 to 1")


class IngestReply(BaseModel):
    """All ingest processes."""

    tone: Tone
    state: str
    p50_seconds: float | None = Field(description="median time to answer")
    p99_seconds: float | None = Field(description="99 % are answered within this time")
    up: int = Field(description="processes that answer")
    processes: int
    is_known: bool = Field(description="whether the console has addresses of processes to ask")
    fault: str | None = Field(description="why a process uses its spool")
    away_since: float | None = Field(description="Unix seconds since which the first process does not answer")


class SpoolReply(BaseModel):
    """Webhooks on the disks of ingest that wait for Redis."""

    entries: int | None
    bytes: int | None
    limit_bytes: int | None
    oldest_seconds: float | None
    used_at: float | None = Field(description="Unix seconds of the last use within a day")
    foreign: int = Field(description="entries of another stream or server")


class AwayShardReply(BaseModel):
    """A shard of a cluster that does not answer. Other numbers do not contain it."""

    shard: int
    node: str | None = Field(description="the address of the node that has it; null if no node has its slot")
    reason: str = Field(description="why, in the words of Redis or of the operating system")


class RedisReply(BaseModel):
    """Redis and the stream."""

    tone: Tone
    state: str
    away_since: float | None
    away_shards: list[AwayShardReply] = Field(description="shards that do not answer, while others do")
    read_at: float | None = Field(description="Unix seconds at which these numbers were read")
    entries: int | None
    kept_seconds: float | None = Field(description="age of the oldest entry")
    memory_node: str | None = Field(description="the fullest node of a cluster; the memory is that of this node")
    memory_share: float | None = Field(description="used memory, as a share of its limit")
    memory_max_bytes: int | None
    memory_used_bytes: int | None
    shortcomings: list[str] = Field(description="settings of Redis that make an append less durable")


class FlowReply(BaseModel):
    """The parts between the provider and the groups."""

    provider: ProviderReply
    ingest: IngestReply
    spool: SpoolReply
    redis: RedisReply


class PausedReply(BaseModel):
    """Why a group is paused, and since when in Unix seconds."""

    reason: str
    since: float | None


class GroupRowReply(BaseModel):
    """One group."""

    name: str
    tone: Tone
    shape: str = Field(description="the icon of its state")
    state: str
    workers: int | None = Field(description="consumers that are alive")
    per_second: float | None = Field(description="entries that it settled, over 10 seconds")
    p99_seconds: float | None = Field(description="99 % of its calls take at most this time, over a minute")
    in_flight: int
    outstanding: int | None
    trend: list[float | None] = Field(description="outstanding entries of the last 15 minutes, the oldest first")
    oldest_seconds: float | None
    failed_share: float | None = Field(description="failed attempts as a share of all, over a minute")
    retries: int
    replays: int
    dead: int
    paused: PausedReply | None
    last_error: str | None = Field(description="class and place of the newest error")


class FailureReply(BaseModel):
    """A failed attempt. Times are Unix seconds."""

    key: str
    at: float
    group: str
    entry: str
    error: str = Field(description="class and place of the error")
    attempt: int
    is_dead: bool = Field(description="whether the entry is a dead letter now")
    due: float | None = Field(description="when it is tried again")


class AlertReply(BaseModel):
    """An alert that fires."""

    name: str
    severity: Literal["page", "warning"]
    subject: str = Field(description="the group, account or process that it is about")
    summary: str
    risk: str
    next_step: str
    runbook: str = Field(description="the path of its runbook on this console")
    since: float


class OverviewReply(BaseModel):
    """One moment of Ackstream."""

    taken_at: float = Field(description="Unix seconds")
    is_first_run: bool = Field(description="whether no webhook has ever arrived")
    verdict: VerdictReply
    flow: FlowReply
    handled_per_second: float | None
    groups: list[GroupRowReply]
    failures: list[FailureReply]
    alerts: list[AlertReply]


class LineReply(BaseModel):
    """One line of a chart."""

    label: str
    tone: str
    values: list[float | None]


class ChartsReply(BaseModel):
    """The lines of each chart, with the times that they share."""

    step_seconds: int
    times: list[float] = Field(description="Unix seconds of the end of each point")
    lines: dict[Literal["rate", "answer", "outstanding"], list[LineReply]]
