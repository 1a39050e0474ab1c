"""Records acts that end in the middle in the audit log: a part of such an act may be done."""

from asyncio import CancelledError
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from console.web.access.audit import AuditLog
from console.web.access.roles import Identity
from runtime.errors import PartlyDone
from stream.redis.errors import error_code


@asynccontextmanager
async def record_interruption(
    audit: AuditLog, identity: Identity, *, action: str, scope: str, why: str
) -> AsyncIterator[None]:
    """Record the act if Redis, or the end of the console, interrupts the block. The error is raised again."""
    try:
        yield
    except (RedisError, PartlyDone, CancelledError) as exc:
        result = f"interrupted: {explain_interruption(exc)}"
        await audit.record(identity, action=action, scope=scope, why=why, result=result)
        raise


def explain_interruption(exc: BaseException) -> str:
    """Return the reason as a sentence without a full stop."""
    if isinstance(exc, PartlyDone):
        return str(exc)
    if isinstance(exc, CancelledError):
        return "the console was stopped"
    if isinstance(exc, OutOfMemoryError):
        return "Redis is full"
    return f"Redis refused it ({error_code(exc)})" if isinstance(exc, ResponseError) else "Redis does not answer"
