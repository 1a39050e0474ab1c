"""The page about ``ackstream doctor``: how to run it, and the table of all its findings."""

import re
from collections.abc import Iterator

from console.doctor.finding import Finding, read_catalogue
from deploy.docs.markdown import page

INTRODUCTION = """
`ackstream doctor` checks an installation: settings and where they come from, versions, the abilities and the dangerous
settings of Redis, the database, the spool and its file system, the modes of files, handlers, targets of `forward`,
certificates and clocks. A self-test webhook travels the whole way to every group. Each finding names the fact, its
consequence and the fix. Exit code 1 means at least one *problem*: work stops, or data can be lost. A *note* can wait.

```sh
ackstream doctor
```

```text
PROBLEM  redis.evicts
  maxmemory-policy of Redis is allkeys-lru. A full Redis drops the whole stream.
  Fix: CONFIG SET maxmemory-policy noeviction, and the same in its file.

Self-test: answered 200 after 6 ms; on the stream after 7 ms; settled by log
  after 10 ms; settled by store after 12 ms.

1 problem and 0 notes in 14 checks, 0.1 s.
```

* It reads the settings as the processes of this machine would, and works without Redis, database or any process: it
  says what is missing, and which checks need it. Each check has at most 20 s; one that does not end is a finding.
* A machine that runs only some processes: `ackstream doctor --role worker`. In a container:
  `docker compose exec ingest ackstream doctor --role ingest`.
* `--json` prints `findings` (`id`, `severity`, `what`, `fix`), the times of the self-test in `probe`, and the checks.
* It changes no data, sends no event to a handler or a target, and prints no secret.
* The web console has the same as the page [Checks](console.md#pages).

## The self-test

Doctor posts `{"ackstream_probe":"ID"}` to ingest's URL (`--url` names another one; `--no-probe` leaves it out), signed
if a signature secret is set. Ingest answers it like any webhook, and marks its entry with the field `probe`. Each group
acks the entry without a call of its handler, a row, an event in the metrics or a dead letter, also while it is paused.
The entry stays on the stream until it is trimmed, counts as a webhook, and is archived. A replay leaves it out.

Nobody can hide a real webhook behind a probe: the mark counts only for a payload that is exactly a probe, and such a
payload has no message and no status. So the self-test needs no secret of its own and no key in Redis, and it also
travels through the spool. Anybody who can send webhooks can send a probe; it is acked and forgotten. Workers of an
earlier version dead-letter a probe as invalid: run it after an upgrade, not during it.

## Redis rights

Doctor asks Redis, in a script, which commands the user may run; none of them is run. The user needs all commands of
the processes that run here (`--role`); a worker needs `xread` and `zscan` in order mode only. A user that is named
`ingest`, `worker` or `console`, as in `deploy/redis-users.acl`, needs those of its own role.
"""
AREAS = {
    "settings": "Settings",
    "signatures": "Signatures",
    "secrets": "Secrets",
    "python": "Python",
    "machine": "Machine",
    "redis": "Redis",
    "clock": "Clocks",
    "group": "Groups",
    "database": "Database",
    "spool": "Spool",
    "archive": "Archive",
    "files": "Files",
    "tls": "Certificates",
    "handler": "Handlers",
    "forward": "Targets of forward",
    "console": "Console",
    "process": "Processes",
    "probe": "Self-test findings",
    "check": "Checks that fail",
}


def render() -> str:
    """Return the page."""
    return page(
        "Doctor", INTRODUCTION, *(part for area, title in AREAS.items() for part in _describe_area(area, title))
    )


def _describe_area(area: str, title: str) -> Iterator[str]:
    yield f"## {title}"
    for kind in read_catalogue().values():
        if kind.id.partition(".")[0] == area:
            yield _describe(kind)


def _describe(kind: Finding) -> str:
    texts = [re.sub(r"\{(\w+)\}", r"*\1*", text) for text in (kind.what, kind.why, kind.fix)]
    what, why, fix = (text.replace("<", "&lt;") for text in texts)
    return f"### {kind.id}\n\n{kind.severity.value.capitalize()}. {what} {why}\n\nFix: {fix}"
