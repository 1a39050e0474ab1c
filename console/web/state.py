"""The objects that every handler of the console needs."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from aiohttp import web
from redis.asyncio import Redis
from redis.exceptions import RedisError
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
from stream.redis.client import limit_wait
from stream.redis.cluster import AwayShard, ask_answering, is_cluster
from stream.shard_watch import FindShards

ANSWER_SECONDS = 0.5
"""A shard of a cluster that takes longer is away for a page, so that the page is shown within a second."""


class ShardsAway(Exception):  # noqa: N818 - named for what is wrong
    """Shards that a request needs do not answer, and nothing was done. The text names their nodes."""


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
        """The shards of a cluster that did not answer the sampler or the last page, while others did."""
        return self.sampler.latest.redis.away_shards

    async def find_answering(self) -> Sequence[Shard]:
        """Return the shards that answer now: pages show these, and name the others, which are `away` from now on.

        Raises RedisError if none answers within ANSWER_SECONDS. A shard that the sampler has not reached is not asked.
        """
        async with limit_wait(ANSWER_SECONDS):
            shards = await self.find_shards()
        if not is_cluster(self.server):
            return shards
        numbers = {each.shard for each in self.away}
        shards = [shard for shard in shards if shard.number not in numbers]
        answers, away = await ask_answering(self.server, shards, self._ask)
        if away:
            self.sampler.lose_shards(away)
        return list(answers)

    async def _ask(self, shard: Shard) -> None:
        async with limit_wait(ANSWER_SECONDS):
            await self.server.exists(shard.stream)

    async def require_all(self) -> Sequence[Shard]:
        """Return all shards, for a change of their entries. Raises ShardsAway if one is away, and RedisError."""
        shards = await self.find_answering()
        if self.away:
            raise ShardsAway(f"{self.fault} Nothing was done: this needs all shards.")
        return shards

    async def require(self, number: int) -> None:
        """Raise ShardsAway if the shard with this number is away, and RedisError."""
        await self.find_answering()
        if number in {each.shard for each in self.away}:
            raise ShardsAway(f"{self.fault} This needs shard {number}.")

    async def find_fault(self) -> str:
        """Ask the shards of a cluster again, one of which a handler has lost. Return the sentence about their nodes."""
        if is_cluster(self.server):
            with suppress(RedisError):
                await self.find_answering()
        return self.fault

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
