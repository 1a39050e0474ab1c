"""The objects that every handler of the console needs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from aiohttp import web
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from console.doctor.board import CheckBoard
from console.format import format_away
from console.queries.run.replay_cards import CopyRates
from console.queries.run.replay_plans import PlanBoard
from console.queries.statuses.histograms import DeliveryHistograms
from console.web.access.audit import AuditLog
from console.web.access.guard import IDENTITY
from console.web.access.roles import Identity
from console.web.erasure.board import ErasureBoard
from console.web.overview.simulation import Simulation
from console.web.sampling.sampler import Sampler
from console.web.settings import ConsoleSettings
from stream.keys import Shard
from stream.redis.cluster import AwayShard
from stream.shard_watch import FindShards


@dataclass(frozen=True, slots=True)
class ConsoleState:
    """Connections and services of a running console."""

    settings: ConsoleSettings
    server: Redis
    shards: Sequence[Shard]
    """The shards; new ones are added while the console runs. It is only shard 0 until the layout was read."""
    find_shards: FindShards
    """Returns all shards. Raises RedisError if the layout was never read, and cannot be."""
    engine: AsyncEngine
    """Read-only."""
    sampler: Sampler
    audit: AuditLog
    plans: PlanBoard
    """The replays that are being planned."""
    simulation: Simulation
    """The made-up webhooks that the first run offers."""
    checks: CheckBoard
    """The checks of `ackstream doctor`."""
    erasures: ErasureBoard
    """The messages that an admin erases."""
    copy_rates: CopyRates = field(default_factory=CopyRates)
    histograms: DeliveryHistograms = field(default_factory=DeliveryHistograms)

    @property
    def away(self) -> Sequence[AwayShard]:
        """The shards of a cluster that did not answer in the last second, while others did."""
        return self.sampler.latest.redis.away_shards

    async def find_answering(self) -> Sequence[Shard]:
        """Return all shards without those that are away: pages show these, and name the others. Raises RedisError."""
        away = {each.shard for each in self.away}
        return [shard for shard in await self.find_shards() if shard.number not in away]

    @property
    def fault(self) -> str:
        """A sentence that names the nodes of the shards that are away; empty if all answer."""
        return f"{format_away(self.away)}." if self.away else ""

    def describe_away(self) -> list[dict[str, Any]]:
        """Return the shards that are away for JSON."""
        return [asdict(each) for each in self.away]


STATE = web.AppKey("state", ConsoleState)


def state_of(request: web.Request) -> ConsoleState:
    """Return the state of the console that serves this request."""
    return request.app[STATE]


def identity_of(request: web.Request) -> Identity:
    """Return the person or token that the guard has found for this request."""
    return request[IDENTITY]
