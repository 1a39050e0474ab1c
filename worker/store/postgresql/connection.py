"""Connections to PostgreSQL with limits for every transaction, and one that lets the server keep its plans."""

import secrets
from typing import Any

import asyncpg

# The server disconnects a writer that hangs while it holds locks (frozen process, lost host), so that others continue.
# The limits are set in each transaction: a pooler in transaction mode gives each transaction another connection, and
# refuses settings at the start of a connection (https://www.pgbouncer.org/features.html).
LIMITS = (
    "SELECT set_config('idle_in_transaction_session_timeout', '15s', true), "
    "set_config('lock_timeout', '10s', true), set_config('statement_timeout', '30s', true)"
)
# One plan for all batches, made with the indexes also while a table is small.
# https://www.postgresql.org/docs/current/runtime-config-query.html
ONE_PLAN = ", set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true)"


class LimitedConnection(asyncpg.Connection):  # type: ignore[misc]  # it has no types
    """Sets the limits with the command that starts a transaction. Alone, they took 7 % of the time of 30 events."""

    settings = LIMITS

    async def execute(self, query: str, *values: Any, **options: Any) -> Any:
        """Send a command, and the settings after a BEGIN."""
        return await super().execute(query + (self.settings if query.startswith("BEGIN") else ""), *values, **options)


class PlanningConnection(LimitedConnection):
    """Prepares each statement once, so that the server parses and plans it once, unless a pooler is in between.

    Behind a pooler in transaction mode the next transaction has another connection of the server, which does not know
    the statement. A pooler gives its clients process ids of its own.
    https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-BACKENDKEYDATA
    """

    settings = LIMITS + ONE_PLAN
    _is_pooled: bool | None = None

    async def prepare(self, query: str, *, name: str | None = None, **options: Any) -> Any:
        """Prepare a statement under a name that no other client has, or without a name behind a pooler."""
        if self._is_pooled is None:
            self._is_pooled = await self.fetchval("SELECT pg_backend_pid()") != self.get_server_pid()
        name = "" if self._is_pooled else f"ackstream_{secrets.token_hex(8)}"
        return await super().prepare(query, name=name, **options)
