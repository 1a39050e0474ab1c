"""The JSON of replays, groups and the audit log, as the API describes it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from console.web.overview.reply import AwayShardReply


class Reply(BaseModel):
    """An answer without other fields."""

    model_config = ConfigDict(extra="forbid")


class ReplayActReply(Reply):
    """An act on a replay. A worker's act has no person."""

    at: str | None
    by: str | None
    why: str | None


class KeptReply(Reply):
    """The part of the stream that is not trimmed because of a group or replay."""

    entries: int
    bytes: int
    seconds: float | None = Field(description="the age of the oldest entry")
    exact: bool = Field(description="false for estimates")


class SelectionReply(Reply):
    """The conditions of a replay."""

    since: str | None
    until: str | None
    ids: list[str]
    messages: list[str]
    statuses: list[str]
    channels: list[str]
    accounts: list[str]
    reasons: list[str]
    errors: list[str]


class ReplaySummaryReply(Reply):
    """A replay, as `ackstream replay list` prints it."""

    replay: str
    group: str
    state: str = Field(description="running, paused, failed, cancelled or done")
    done: int
    total: int
    rate: float
    scope: str
    started: ReplayActReply
    moved: ReplayActReply = Field(description="the last change of its state")
    error: str | None


class ReplayReply(ReplaySummaryReply):
    """A replay with its speed."""

    source: str
    selection: SelectionReply
    share: float | None
    rate_now: float | None = Field(description="copies a second; null if not known")
    seconds_left: float | None
    copying: bool = Field(description="whether a worker copies for it")
    waits_for_handler: bool
    kept: KeptReply | None
    has_ended: bool
    took_seconds: float | None
    state_seconds: float


class PlanReply(Reply):
    """The entries that a replay would copy."""

    group: str
    source: str
    scope: str
    complete: bool = Field(description="false while the entries are counted")
    entries: int
    bytes: int
    first: str | None
    last: str | None
    seconds: float
    rate: float
    read: int = Field(description="entries that were read so far")
    of: int | None = Field(description="entries to read; null if not known")
    counted_at: float | None


class ReplaysReply(Reply):
    """All replays, and the plan if a group is given."""

    replays: list[ReplayReply]
    plan: PlanReply | None
    away: list[AwayShardReply]


class StartReply(Reply):
    """A replay that was started."""

    replay: str
    group: str
    total: int
    rate: float


class PauseReply(Reply):
    """Why a group is paused."""

    reason: str
    meaning: str
    since: str | None
    by: str | None
    why: str | None
    next_probe: str | None


class GroupReply(Reply):
    """A group. Numbers that are not known are null."""

    group: str
    handler: str | None
    registered: bool
    exists: bool
    alive: int | None = Field(description="consumers that are alive")
    unread: int | None
    pending: int
    delayed: int = Field(description="retries that wait for their time")
    retries: int = Field(description="retries that are due, or in flight")
    replays: int
    dead: int
    outstanding: int | None
    oldest_seconds: float | None
    kept: KeptReply
    paused: PauseReply | None
    settled_per_second: float | None
    handled_per_second: float | None
    failed_share: float | None
    handle_p50: float | None
    handle_p99: float | None
    state: str = Field(
        description="healthy, behind, paused, unattended, waiting (its target is away), missing, foreign or replay"
    )


class GroupsReply(Reply):
    """All groups."""

    groups: list[GroupReply]
    away: list[AwayShardReply]


class ConsumerReply(Reply):
    """A consumer of a group."""

    name: str
    pending: int
    idle_seconds: float
    alive: bool | None = Field(description="null if it may be busy")


class HandlerFailureReply(Reply):
    """A failed attempt."""

    at: float
    entry: str
    error: str
    attempt: int
    dead: bool
    due: float | None


class GroupDetailsReply(GroupReply):
    """A group with its consumers and newest failures."""

    away: list[AwayShardReply]
    consumers: list[ConsumerReply]
    failures: list[HandlerFailureReply]


class OutstandingReply(Reply):
    """The work that is due."""

    outstanding: int


class GroupPausedReply(Reply):
    """A group that was paused."""

    group: str
    paused: str


class GroupProbeReply(Reply):
    """A group whose next probe is due, or whose probe is running."""

    group: str
    probe: Literal["due", "running"]


class ResumedReply(Reply):
    """A group that was resumed. ``reason`` is that of its pause."""

    group: str
    resumed: bool
    reason: str | None


class DroppedReply(Reply):
    """A group that was dropped."""

    dropped: str
    lost: int
    dead_letters_dropped: bool


class AuditEntryReply(Reply):
    """An act."""

    id: int
    at: str
    who: str
    role: str
    address: str
    action: str
    scope: str
    count: int | None
    why: str
    result: str


class AuditReply(Reply):
    """A page of the audit log. ``next`` is the query of the next page."""

    entries: list[AuditEntryReply]
    next: str | None
