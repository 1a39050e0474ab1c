"""``ackstream plan``: how many processes, and how much memory and disk, a rate needs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from console.options import AsJson

if TYPE_CHECKING:
    from console.plan.workload import Workload


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Options for the load to plan for."""

    rate: Annotated[float, typer.Option(help="Statuses a second, on average over a day.")]
    peak: Annotated[
        float | None, typer.Option(help="Statuses a second in the busiest minutes (default: the rate).")
    ] = None
    retention: Annotated[
        str, typer.Option(metavar="AGE", help="How long entries stay in Redis: ACKSTREAM_RETENTION.")
    ] = "7d"
    tables_retention: Annotated[
        str, typer.Option(metavar="AGE", help="How long rows stay: ACKSTREAM_TABLES_RETENTION.")
    ] = "off"
    size: Annotated[int, typer.Option(metavar="BYTES", help="Bytes of a webhook's body.")] = 560
    groups: Annotated[
        int, typer.Option(help="Handlers: `store`, and functions that take one event and do nothing.")
    ] = 1
    events_per_message: Annotated[float, typer.Option(help="Statuses of a message.")] = 3.0
    shards: Annotated[int | None, typer.Option(help="Shards (default: as many as needed).")] = None

    def make_workload(self, factor: float, iops: int) -> "Workload":
        """Return the load. Raises CommandError for a value that is not possible."""
        from console.plan.workload import Workload

        retention = _parse_age("--retention", self.retention)
        if retention is None:
            from runtime.errors import CommandError

            raise CommandError("--retention off keeps every entry in memory: name an age, such as 7d")
        workload = Workload(
            rate=self.rate,
            retention_seconds=retention,
            peak=self.peak,
            tables_seconds=_parse_age("--tables-retention", self.tables_retention),
            size=self.size,
            groups=self.groups,
            events_per_message=self.events_per_message,
            shards=self.shards,
            factor=factor,
            iops=iops,
        )
        workload.check()
        return workload


def plan(
    load: LoadOptions,
    factor: Annotated[float, typer.Option(help="CPU time of your machine, as a multiple of the measured one.")] = 1.0,
    iops: Annotated[int, typer.Option(help="Writes a second that PostgreSQL's disk can do.")] = 16_000,
    as_json: AsJson = False,
) -> None:
    """Compute processes, shards, memory and disk for a rate, the part that is full first, and the remedy.

    It asks no server. The figures follow from the measured cost of one status in each part, see docs/capacity.md. The
    time of your own functions is not included.

    Your rate is rate(ackstream_webhooks_total[1d]) in Prometheus. For --factor divide your CPU time per webhook,
    process_cpu_seconds_total by ackstream_webhooks_total of a busy ingest process, by the one in docs/capacity.md.

    Example: ackstream plan --rate 200 --peak 1000 --retention 7d
    """
    from console.output import print_json, print_line, print_rows
    from console.plan.capacity import Capacity
    from console.plan.costs import read_costs
    from console.plan.report import make_notes, make_rows

    capacity = Capacity(load.make_workload(factor, iops), read_costs())
    if as_json:
        print_json(capacity.as_json())
        return
    print_rows(list(make_rows(capacity)))
    for note in make_notes(capacity):
        print_line(note)


def _parse_age(option: str, text: str) -> float | None:
    """Return seconds; None for ``off``. Raises CommandError."""
    from pydantic import TypeAdapter, ValidationError

    from runtime.errors import CommandError
    from worker.retention.settings import Age, parse_age

    try:
        age = parse_age(TypeAdapter(Age).validate_python(text))
    except ValidationError:
        raise CommandError(
            f"{option} {text!r} is not an age: write a number with m, h or d, such as 90m, 12h or 7d"
        ) from None
    return None if age is None else age / 1000
