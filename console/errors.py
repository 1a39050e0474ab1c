"""Explain errors to users: the failed part, the reason, and the next step. Loaded only after an error."""

import os
import socket
import ssl
import sys

from runtime.errors import CommandError, PartlyDone
from runtime.escape import escape_unprintable

_OURS = frozenset(("console", "ingest", "runtime", "stream", "worker"))
_DATABASES = frozenset(("aiosqlite", "asyncpg", "sqlalchemy", "sqlite3"))

_REDIS_AWAY = "start `ackstream up`, or set ACKSTREAM_REDIS_URL (or --redis-url) to the server that ingest uses"

_DATABASE_AWAY = "check that it runs, and ACKSTREAM_DATABASE_URL (or --database-url)"
_CONSOLE_DATABASE_AWAY = (
    "check the rights on it and the room on its disk (--data or ACKSTREAM_DATA names the data folder)"
)


def explain(exc: BaseException) -> str | None:
    """Return a sentence about an error that a user can fix; None for a bug in this program.

    The caller that knows the failed server adds its address with ``add_note``. The sentence contains no values from the
    database and no password.
    """
    if isinstance(exc, BaseExceptionGroup):
        sentences = [explain(error) for error in exc.exceptions]
        return sentences[0] if all(sentences) else None
    if isinstance(exc, CommandError | PartlyDone):
        return str(exc)
    if isinstance(exc, UnicodeEncodeError):  # Python reads other bytes as lone surrogates
        text = _name_text(exc.object)
        return f"{text} is not UTF-8: check the arguments, the settings and the encoding of the terminal"
    return _explain_library(exc)


def _name_text(text: str) -> str:
    """Return an argument as it is. Any other text may be a secret."""
    arguments = {*sys.argv, *(value.partition("=")[2] for value in sys.argv if value.startswith("--"))}
    return escape_unprintable(text)[:100] if text in arguments else "a setting, or a part of a URL,"


def _explain_library(exc: BaseException) -> str | None:
    libraries = {base.__module__.partition(".")[0] for base in type(exc).__mro__}
    where = next(iter(getattr(exc, "__notes__", ())), None)
    if "redis" in libraries:
        return _explain_redis(exc, where or "Redis")
    if isinstance(exc, OSError) and exc.filename is not None:
        return _explain_file(exc)
    if libraries & _DATABASES or (where and where.startswith("the database")):
        return _explain_database(exc, where or "the database")
    if isinstance(exc, ModuleNotFoundError):
        name = (exc.name or "").partition(".")[0]
        return None if name in _OURS else f"{name} is missing: pip install 'ackstream[console]'"
    return _explain_file(exc) if isinstance(exc, OSError) else None


def _explain_redis(exc: BaseException, where: str) -> str:
    from stream.redis.errors import AWAY, SILENT, STALLED, error_code, identify_fault  # noqa: PLC0415 - loaded already: it raised exc

    reply_code, text = error_code(exc), str(exc)
    if "DB index is out of range" in text:
        return f"{where}: it has no database with this number; correct the number at the end of ACKSTREAM_REDIS_URL"
    fault = identify_fault(exc)
    if fault in (AWAY, SILENT, STALLED) and not reply_code:
        return f"{where} does not answer ({_cause(exc)}): {_REDIS_AWAY}"
    may_quote = fault.name != "denied" or reply_code in ("WRONGPASS", "NOAUTH")  # NOPERM names the right
    meaning = fault.meaning if may_quote else escape_unprintable(text)[:200]
    return (
        f"{where}: {meaning}{f' ({reply_code})' if reply_code and reply_code not in meaning else ''}; {fault.next_step}"
    )


def _explain_database(exc: BaseException, where: str) -> str:
    from worker.database_fault import AWAY, identify_database_fault  # noqa: PLC0415 - loaded only for such an error

    original = getattr(exc, "orig", None) or exc
    state = str(getattr(original, "sqlstate", None) or getattr(exc, "sqlstate", None) or "")
    fault = identify_database_fault(exc)
    step = _DATABASE_AWAY if fault is AWAY else fault.next_step
    if type(original).__module__.startswith("sqlite3"):
        step = _CONSOLE_DATABASE_AWAY if where.startswith("the console's") else step
        return f"{where} cannot be used ({escape_unprintable(str(original))}): {step}"
    if state:
        meaning = "" if fault is AWAY else f", {fault.meaning}"
        return f"{where} refuses ({type(original).__name__}, SQLSTATE {state}{meaning}): {step}"
    return f"{where} does not answer ({_cause(exc)}): {_DATABASE_AWAY}"


def _explain_file(exc: OSError) -> str:
    reason = _cause(exc)
    if exc.filename is None:
        return f"the operating system refused an operation: {reason}"
    return (
        f"{escape_unprintable(str(exc.filename))}: {reason}; check this path and the rights on it "
        "(--data or ACKSTREAM_DATA names the data folder)"
    )


def _cause(exc: BaseException) -> str:
    """Return the operating system's reason if there is one, else the error's class: its text may quote values."""
    error: BaseException | None = exc
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not valid: {error.verify_message}"
        if isinstance(error, OSError) and error.errno:
            is_unknown_host = isinstance(error, socket.gaierror)  # its number is not one of the system
            return str(error.strerror) if is_unknown_host else os.strerror(error.errno)
        error = error.__cause__ or error.__context__
    return "no answer in time" if "Timeout" in type(exc).__name__ else type(exc).__name__
