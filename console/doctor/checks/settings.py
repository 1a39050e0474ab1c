"""Checks the settings: which are not valid, unknown, without effect, or contradict each other."""

from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_network

from console.doctor.checks.signatures import is_loopback
from console.doctor.daemon_thread import run_in_daemon
from console.doctor.finding import Finding, make_finding
from console.doctor.setup import Setup
from console.queries.run.settings_in_force import find_ineffective, name_variable
from ingest.settings import IngestSettings
from runtime.errors import CommandError
from runtime.tracing.process import import_tracer
from stream.settings import StreamSettings, find_variables
from worker.settings import WorkerSettings

DAY_SECONDS = 86_400


async def check_settings(setup: Setup) -> Sequence[Finding]:
    """Return what is wrong with the settings themselves. Files of settings are read in a thread."""
    return await run_in_daemon(lambda: [*_find_invalid(setup), *_find_unused(setup), *find_conflicts(setup)])


def _find_invalid(setup: Setup) -> Iterator[Finding]:
    faults = dict(setup.faults)
    ingest, worker = setup.ingest, setup.worker
    if ingest is not None:
        faults["ingest"] = _explain_fault(lambda: (ingest.verifier, import_tracer(ingest.tracing)))
    if worker is not None:
        faults["worker"] = _explain_fault(lambda: (worker.specs, import_tracer(worker.tracing)))
    for process, text in faults.items():
        if text:
            yield make_finding("settings.invalid", process=process, text="; ".join(text.splitlines()).rstrip("."))


def _explain_fault(read: Callable[[], object]) -> str:
    try:
        read()
    except CommandError as exc:
        return str(exc)
    return ""


def _find_unused(setup: Setup) -> Iterator[Finding]:
    settings = setup.worker or setup.stream
    for event, setting in find_ineffective(settings, lambda: setup.kinds):
        yield make_finding(event, name=setting.name, source=setting.source, advice=setting.advice)
    variables = find_variables()
    for name, advice in setup.overridden.items():
        if (source := variables.get(name)) and name not in ("redis_url", "database_url"):
            yield make_finding("settings.overridden", name=name_variable(name), source=source, advice=advice)
    for name in sorted({name for kind in setup.kinds for name in kind.secrets}):
        if {name, f"{name}_file"} <= variables.keys():
            yield make_finding("settings.twice", name=name_variable(name))


def find_conflicts(setup: Setup) -> Iterator[Finding]:
    """Yield the settings that contradict each other, or have no effect together with another one. No I/O."""
    if setup.ingest is not None:
        yield from _find_ingest_conflicts(setup.ingest)
    if setup.worker is not None:
        yield from _find_worker_conflicts(setup.worker)
    if setup.console is not None:
        yield from _find_console_conflicts(setup.console)


def _find_ingest_conflicts(settings: IngestSettings) -> Iterator[Finding]:
    yield from _find_same_port("port", settings.port, settings.admin_port)
    if settings.signatures == "off":
        for name in ("signature_secrets", "dlr_signature"):
            if getattr(settings, name) not in (None, "off"):
                yield _without_effect(name, "ACKSTREAM_SIGNATURES=off")
        return
    if settings.signatures == "observe":
        yield make_finding("signatures.observe")
    elif settings.wrong_signature == "401":
        yield make_finding("signatures.lost")
    if settings.signature_max_age_seconds < DAY_SECONDS:
        yield make_finding("signatures.max-age", seconds=settings.signature_max_age_seconds)


def _find_worker_conflicts(settings: WorkerSettings) -> Iterator[Finding]:
    if settings.archive is not None and settings.retention == "off":
        yield _without_effect("archive", "ACKSTREAM_RETENTION=off")
    if settings.retention_bytes is not None and settings.retention == "off":
        yield _without_effect("retention_bytes", "ACKSTREAM_RETENTION=off")
    if settings.retry_base_seconds > settings.retry_cap_seconds:
        yield make_finding(
            "settings.contradictory",
            name="ACKSTREAM_RETRY_BASE_SECONDS",
            value=f"{settings.retry_base_seconds:g}",
            other="ACKSTREAM_RETRY_CAP_SECONDS",
            limit=f"{settings.retry_cap_seconds:g}",
            consequence="Each delay has the length of the cap, so retries do not come later and later",
        )


def _find_console_conflicts(settings: StreamSettings) -> Iterator[Finding]:
    """Yield the conflicts of ConsoleSettings, whose folder imports this one."""
    yield from _find_same_port("console_port", getattr(settings, "console_port", 0), getattr(settings, "admin_port", 0))
    header: str = getattr(settings, "console_user_header", "")
    proxies: Sequence[str] = getattr(settings, "proxies", ())
    if header and not proxies:
        yield _without_effect("console_user_header", "ACKSTREAM_CONSOLE_PROXIES is empty")
    if header and (everybody := next((each for each in proxies if ip_network(each).prefixlen == 0), None)):
        yield make_finding("console.trusts-all", network=everybody, header=header)
    hosts: Sequence[str] = getattr(settings, "hosts", ())
    if not proxies and (host := next((host for host in hosts if not is_loopback(host)), None)):
        yield make_finding("console.plain", host=host)


def _find_same_port(name: str, port: int, admin_port: int) -> Iterator[Finding]:
    if port and port == admin_port:
        yield make_finding(
            "settings.contradictory",
            name=name_variable(name),
            value=port,
            other="ACKSTREAM_ADMIN_PORT",
            limit="the same",
            consequence="One process cannot listen on a port twice, so it does not start",
        )


def _without_effect(name: str, cause: str) -> Finding:
    return make_finding("settings.without-effect", name=name_variable(name), cause=cause)
