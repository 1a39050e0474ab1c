"""The JSON of settings, versions and processes, as the API describes it."""

from console.web.pages.run.replies import Reply


class SettingReply(Reply):
    """A setting. The value of a secret says only how many values it has."""

    name: str
    value: str | None
    source: str
    secret: bool
    meaning: str


class ProcessSettingsReply(Reply):
    """The settings in force at these addresses; without any those of this machine, or why a process would not start."""

    process: str
    addresses: list[str]
    fault: str | None
    lines: list[SettingReply]


class IneffectiveReply(Reply):
    """A variable without effect."""

    name: str
    source: str
    advice: str


class RedisServerReply(Reply):
    """A Redis server."""

    away: str | None
    version: str | None
    durable: bool | None
    shortcomings: list[str]
    memory_used: int | None
    memory_max: int | None
    replicas: int | None


class RedisNodeReply(RedisServerReply):
    """A node of a cluster that has a shard."""

    node: str


class RedisPartReply(RedisServerReply):
    """The Redis server. Of a cluster all versions, the least durable node, the fullest, and the fewest replicas."""

    address: str
    stream: str
    nodes: list[RedisNodeReply]


class DatabasePartReply(Reply):
    """The database."""

    address: str
    needs: str
    away: str | None
    version: str | None
    revision: str | None


class ProcessReply(Reply):
    """A process whose metrics the console reads."""

    kind: str
    address: str
    up: bool
    since: float
    reason: str | None


class SettingsReply(Reply):
    """Settings, versions and processes."""

    version: str
    python: str
    data: str
    started_at: float
    redis: RedisPartReply
    database: DatabasePartReply
    processes: list[ProcessReply]
    is_scraping: bool
    without_effect: list[IneffectiveReply]
    settings: list[ProcessSettingsReply]
