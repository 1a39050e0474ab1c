"""The JSON of dead letters, invalid and quarantined payloads, as the API describes it."""

from pydantic import BaseModel, ConfigDict, Field

from console.web.overview.reply import AwayShardReply


class CauseReply(BaseModel):
    """A cause and its numbers."""

    model_config = ConfigDict(extra="forbid")

    cause: str = Field(description="its id, for actions")
    count: int
    good: int = Field(description="entries that would be accepted now; 0 for dead letters")
    bytes: int
    first_at: str | None
    last_at: str | None
    received: list[str | None] = Field(description="the earliest and the latest time of receipt; empty if unknown")
    last_hour: int
    hours: list[int] = Field(description="the number of each of the last 24 hours, the oldest first")


class DeadCauseReply(CauseReply):
    """A cause of dead letters."""

    group: str
    reason: str
    error: str


class InvalidCauseReply(CauseReply):
    """A cause of invalid payloads."""

    error: str
    signature: str


class QuarantineCauseReply(CauseReply):
    """A cause of refused payloads."""

    reason: str
    account: str


class DeadLetterReply(BaseModel):
    """A dead letter, with masked numbers."""

    model_config = ConfigDict(extra="forbid")

    id: str
    group: str
    reason: str
    error: str
    attempts: int
    received_at: str | None
    given_up_at: str | None
    entry: str | None
    message: str | None
    client_ref: str | None
    status: str | None
    channel: str | None
    to: str | None


class DeadLetterPageReply(DeadLetterReply):
    """A dead letter with its last attempts. The private parts are null or empty unless it is revealed."""

    errors: list[dict[str, str | None]] = Field(description="time, class and place of the last failed attempts")
    error_message: str | None
    payload: str | None
    fields: dict[str, str]
    is_revealed: bool


class SampleReply(BaseModel):
    """The latest replay of a sample of a cause. A number that cannot be known is null."""

    model_config = ConfigDict(extra="forbid")

    replay: str
    state: str
    at: str | None
    by: str | None
    total: int
    copied: int
    handled: int | None
    failed: int | None
    waiting: int | None
    is_over: bool


class OpenDeadCauseReply(DeadCauseReply):
    """The open cause, with one page of its dead letters."""

    newest: DeadLetterReply
    alive: int | None = Field(description="workers of the group that run")
    sample: SampleReply | None
    letters: list[DeadLetterReply]
    position: int
    older: str | None = Field(description="`before` of the next page")


class CauseListReply(BaseModel):
    """Entries by cause: ``counted`` of ``total``, the newest."""

    model_config = ConfigDict(extra="forbid")

    total: int
    counted: int
    counted_at_most: int
    is_complete: bool
    matching: int = Field(description="counted entries that the filter selects")
    through: str | None = Field(description="the newest entry that was counted")
    others: int = Field(description="entries of further causes, which are not listed")
    away: list[AwayShardReply]


class DeadLettersReply(CauseListReply):
    """Dead letters by cause."""

    group: str | None
    since: str | None
    groups: list[str]
    causes: list[DeadCauseReply]
    cause: OpenDeadCauseReply | None


class InvalidPayloadReply(BaseModel):
    """An invalid payload. Content and query are null unless it is revealed."""

    model_config = ConfigDict(extra="forbid")

    id: str
    entry: str
    error: str
    signature: str
    bytes: int
    received_at: str | None
    recorded_at: str | None
    content_type: str
    is_status: bool
    payload: str | None
    query: str | None
    is_revealed: bool


class OpenInvalidCauseReply(InvalidCauseReply):
    """The open cause, with one page of its payloads."""

    payloads: list[InvalidPayloadReply]
    position: int
    older: str | None


class InvalidReply(CauseListReply):
    """Invalid payloads by cause, and the totals of the record."""

    recorded: int
    dropped: int
    discarded: int
    replayed: int
    causes: list[InvalidCauseReply]
    cause: OpenInvalidCauseReply | None


class RefusedPayloadReply(BaseModel):
    """A refused payload. Content and query are null unless it is revealed."""

    model_config = ConfigDict(extra="forbid")

    id: str
    reason: str
    account: str | None
    received_at: str | None
    kept_at: str | None
    bytes: int
    kept: bool = Field(description="false if it was too large to be kept")
    content_type: str
    is_right: bool = Field(description="whether the current secrets verify it")
    next_step: str | None
    payload: str | None
    query: str | None
    is_revealed: bool


class OpenQuarantineCauseReply(QuarantineCauseReply):
    """The open cause, with one page of its payloads."""

    next_step: str | None
    payloads: list[RefusedPayloadReply]
    position: int
    older: str | None


class QuarantineReply(CauseListReply):
    """Refused payloads by cause."""

    has_secrets: bool
    causes: list[QuarantineCauseReply]
    cause: OpenQuarantineCauseReply | None


class DoneReply(BaseModel):
    """The number of entries that an action changed."""

    model_config = ConfigDict(extra="forbid")

    count: int


class StartedReplayReply(BaseModel):
    """A replay that has started."""

    model_config = ConfigDict(extra="forbid")

    replay: str
    total: int


class DeadReplayReply(DoneReply):
    """The replays that an action started."""

    replays: list[StartedReplayReply]


class InvalidReplayReply(DoneReply):
    """The result of parsing payloads again."""

    replayed: int
    still_invalid: int
