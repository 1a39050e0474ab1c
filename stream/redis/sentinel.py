"""Asking sentinels where the primary is.

redis-py's own Sentinel asks one after the other, each up to its time limit, and trusts the first answer, which may be
that of one who was cut off. Here all are asked at once, and what most of them say counts most.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.redis.connection import Tcp, Tls
from stream.redis.errors import PrimaryUnknown
from stream.redis.url import Host, Target

ASK_SECONDS = 1.0
LOOK_SECONDS = 2.0


class Sentinels:
    """The sentinels of one service. Each asking has connections of its own, so that none can be half open."""

    found: Host | None = None
    """The primary, as far as is known: where connections lead."""

    def __init__(self, target: Target, limits: Mapping[str, Any]) -> None:
        self._service = target.service
        self._hosts = target.sentinels
        self._kind = Tls if target.scheme == "rediss" else Tcp
        self._options = {**target.sentinel_options, **limits}
        self._looked = 0.0
        self._looking: asyncio.Task[None] | None = None

    async def primaries(self) -> Sequence[Host]:
        """Return the addresses that the sentinels name, most named first. Raises PrimaryUnknown after ASK_SECONDS."""
        return [host for host, _ in (await self._named()).most_common()]

    def look(self) -> None:
        """See in the background, unless that was done a moment ago, whether most sentinels name another primary."""
        if time.monotonic() - self._looked > LOOK_SECONDS and (self._looking is None or self._looking.done()):
            self._looked = time.monotonic()
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def aclose(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _look(self) -> None:
        with suppress(PrimaryUnknown):
            host, times = (await self._named()).most_common(1)[0]
            if self._are_most(times):
                self.found = host

    def _are_most(self, times: int) -> bool:
        return 2 * times > len(self._hosts)

    async def _named(self) -> Counter[Host]:
        """Count what the sentinels say until most agree, all have spoken, or the time is over."""
        asking = [asyncio.ensure_future(self._ask(*host)) for host in self._hosts]
        try:
            named, failed = await self._answers(asking)
        finally:
            for one in asking:
                one.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        if not named:
            raise PrimaryUnknown(f"no sentinel names a primary of {self._service!r}") from failed
        random.shuffle(named)  # so that of equals it is not always the same one that comes first
        return Counter(named)

    async def _answers(self, asking: Sequence["asyncio.Future[Host | None]"]) -> tuple[list[Host], Exception | None]:
        named: list[Host] = []
        failed: Exception | None = None
        try:
            async with asyncio.timeout(ASK_SECONDS):
                for answer in asyncio.as_completed(asking):
                    try:
                        if host := await answer:
                            named.append(host)
                    except RedisError as exc:
                        failed = exc
                    if any(map(self._are_most, Counter(named).values())):
                        break
        except TimeoutError:
            failed = failed or RedisTimeoutError()
        return named, failed

    async def _ask(self, host: str, port: int) -> Host | None:
        connection: Any = self._kind(host=host, port=port, **self._options)
        try:
            await connection.connect()
            await connection.send_command("SENTINEL GET-MASTER-ADDR-BY-NAME", self._service)
            found = await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)  # at once, so that nothing can come between
        return (found[0].decode(), int(found[1])) if found else None
