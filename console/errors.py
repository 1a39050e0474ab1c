"""What to tell a person about an error: what failed, why, and the next step. Loaded only when there is one."""

import os
import ssl

from runtime.errors import Refusal
from runtime.escape import escape_unprintable

_OURS = frozenset(("console", "ingest", "runtime", "stream", "worker"))
_DATABASES = frozenset(("aiosqlite", "asyncpg", "sqlalchemy", "sqlite3"))

_REDIS_AWAY = "start `ackstream up`, or set ACKSTREAM_REDIS_URL (or --redis-url) to the server that ingest uses"

_SQLSTATE_NEXT_STEPS = {
    "28": "check the user and the password in ACKSTREAM_DATABASE_URL",
    "3D": "create the database, or correct its name in ACKSTREAM_DATABASE_URL",
    "42": "run `ackstream migrate`, and check this user's rights on the tables",
    "53": "free connections, memory or disk of the database server",
    "57": "wait until the database server takes connections",
}
_DATABASE_AWAY = "check that it runs, and ACKSTREAM_DATABASE_URL (or --database-url)"


def explain(exc: BaseException) -> str | None:
    """Return a sentence for an error that a person can cause and mend; None for a fault of this program.

    Whoever knows where the error came from, such as a server's address, has added it with ``add_note``. No value of
    the database and no password is in the sentence.
    """
    if isinstance(exc, BaseExceptionGroup):
        sentences = [explain(one) for one in exc.exceptions]
        return sentences[0] if all(sentences) else None
    if isinstance(exc, Refusal):
        return str(exc)
    return _explain_library(exc)


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
    from stream.redis.errors import error_code, identify_fault  # noqa: PLC0415 - redis is loaded, or it could not have failed

    found, text = error_code(exc), str(exc)
    if "DB index is out of range" in text:
        return f"{where}: it has no database of this number; correct the number at the end of ACKSTREAM_REDIS_URL"
    fault = identify_fault(exc)
    if not fault.connected and not found:
        return f"{where} does not answer ({_cause(exc)}): {_REDIS_AWAY}"
    may_quote = fault.name != "denied" or found in ("WRONGPASS", "NOAUTH")  # the text of a missing right names it
    said = fault.meaning if may_quote else escape_unprintable(text)[:200]
    return f"{where}: {said}{f' ({found})' if found and found not in said else ''}; {fault.next_step}"


def _explain_database(exc: BaseException, where: str) -> str:
    original = getattr(exc, "orig", None) or exc
    state = str(getattr(original, "sqlstate", None) or getattr(exc, "sqlstate", None) or "")
    if type(original).__module__.startswith("sqlite3"):
        return f"{where} cannot be used ({escape_unprintable(str(original))}): {_DATABASE_AWAY}"
    if state:
        step = _SQLSTATE_NEXT_STEPS.get(state[:2], _DATABASE_AWAY)
        return f"{where} refuses ({type(original).__name__}, SQLSTATE {state}): {step}"
    return f"{where} does not answer ({_cause(exc)}): {_DATABASE_AWAY}"


def _explain_file(exc: OSError) -> str:
    reason = _cause(exc)
    if exc.filename is None:
        return f"the system refuses an operation: {reason}"
    return (
        f"{escape_unprintable(str(exc.filename))}: {reason}; check this path and the rights on it "
        "(--data or ACKSTREAM_DATA names the data folder)"
    )


def _cause(exc: BaseException) -> str:
    """Name the operating system's reason if there is one, else the error's class: a text may quote values."""
    one: BaseException | None = exc
    while one is not None:
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"its certificate is not valid: {one.verify_message}"
        if isinstance(one, OSError) and one.errno:
            return os.strerror(one.errno)
        one = one.__cause__ or one.__context__
    return "no answer in time" if "Timeout" in type(exc).__name__ else type(exc).__name__
