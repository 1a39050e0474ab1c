"""Options that several commands share, and the typer application that reads them.

A command takes related options as one dataclass. The command line has one option for each field.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from stream.entry import EntryId
    from stream.keys import Shard
    from stream.redis.cluster import AwayShard
    from stream.settings import StreamSettings

S = TypeVar("S")
T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

Data = Annotated[Path | None, typer.Option(help="The data folder (default ./ackstream-data).")]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        help="redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// URL (default: the running `up`)."
    ),
]
DatabaseUrl = Annotated[str | None, typer.Option(help="sqlite:///path or postgresql://user:password@host/database.")]
AdminHost = Annotated[str | None, typer.Option(help="Address of the admin port (default 127.0.0.1).")]
AdminPort = Annotated[int | None, typer.Option(help="Port of /live, /ready and /metrics; 0 picks a free one.")]
StopWithStdin = Annotated[
    bool,
    typer.Option("--stop-with-stdin", help="Stop when standard input ends: for a parent process that may be killed."),
]
Processes = Annotated[
    int | None, typer.Option(help="How many processes to run on the same port and admin port (default 1).")
]
ChildOption = Annotated[
    str | None, typer.Option("--child", hidden=True, help="The inheritance of a process that a supervisor starts.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print everything as JSON, for programs.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Show phone numbers and error messages in full.")]
EntryArgument = Annotated[str, typer.Argument(metavar="ID", help="The id that `list` shows, shard/ms-seq.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def _parse_why(text: str) -> str:
    text = text.strip()
    if not 0 < len(text) <= MOST_WHY or not text.isprintable():
        raise ValueError(text)
    return text


MOST_WHY = 200
_WHY = typer.Option("--why", metavar="TEXT", parser=_parse_why, help="The reason, for lists: 1 to 200 characters.")
Why = Annotated[str, _WHY]
OptionalWhy = Annotated[str | None, _WHY]


def check_url(url: str | None) -> None:
    """Raise CommandError unless ``--url`` is missing or an HTTP URL with a possible host and port."""
    from runtime.errors import CommandError, WrongValue
    from stream.http_url import check_http_url

    try:
        if url is not None:
            check_http_url(url)
    except WrongValue as exc:
        raise CommandError(f"--url: {exc}") from None


def user_name() -> str:
    """Return the name of the user who runs the command; a number if the system has no name for it."""
    import getpass
    import os

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


class CommandGroup(typer.Typer):
    """A typer application whose commands can take dataclasses of options."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Command], Command]:
        """Return a decorator that registers a command under this name."""
        register = super().command(name, **settings)

        def add(command: Command) -> Command:
            register(_flatten(command))
            return command

        return add


def _flatten(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with one option for each field of its dataclasses, after its other options."""
    parameters = inspect.signature(command).parameters.values()
    groups: dict[str, Any] = {item.name: item.annotation for item in parameters if is_dataclass(item.annotation)}

    @wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    kind = inspect.Parameter.KEYWORD_ONLY
    plain = [item.replace(kind=kind) for item in parameters if item.name not in groups]
    grouped = [
        inspect.Parameter(
            field.name,
            kind,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=field.type,
        )
        for group in groups.values()
        for field in fields(group)
    ]
    run.__signature__ = inspect.Signature([*plain, *grouped])  # type: ignore[attr-defined]
    return run


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The server and the stream that a command works on, and its output format."""

    data: Data = None
    redis_url: RedisUrl = None
    as_json: AsJson = False

    @property
    def settings(self) -> "StreamSettings":
        """The settings of the stream. Raises InvalidSettings."""
        from stream.settings import StreamSettings

        return StreamSettings.load(data=self.data, redis_url=self.redis_url)

    def ask(self, question: "Callable[[Redis, Sequence[Shard]], Awaitable[T]]") -> T:
        """Return the result of a question or an act that needs all shards, shard 0 first.

        Raises CommandError if a shard of a cluster is away, and RedisError with a note.
        """
        from console.ask import ask_redis
        from console.queries.shards import find_shards, name_lost, refuse_gaps

        settings = self.settings

        async def ask_all(server: "Redis") -> T:
            shards, away = await find_shards(server, settings)
            refuse_gaps(away)
            async with name_lost(server, shards):
                return await question(server, shards)

        return ask_redis(settings, ask_all)

    def act(self, change: "Callable[[Redis, Sequence[Shard]], Awaitable[T]]") -> T:
        """Return the result of a change on all shards, as ``ask``. Raises PartlyDone if Redis fails during it."""
        return self.ask(self._warn_of_part(change))

    def act_on_shard(self, number: int, change: "Callable[[Redis, Shard], Awaitable[T]]") -> T:
        """Return the result of a change on one shard, as ``ask_shard``. Raises PartlyDone if Redis fails during it."""
        return self.ask_shard(number, self._warn_of_part(change))

    def _warn_of_part(self, change: "Callable[[Redis, S], Awaitable[T]]") -> "Callable[[Redis, S], Awaitable[T]]":
        from redis.exceptions import RedisError

        from console.errors import explain
        from console.format import PARTLY_DONE
        from runtime.errors import PartlyDone
        from stream.redis.client import redact_url
        from stream.redis.cluster import is_cluster, is_lost

        async def apply(server: "Redis", shards: S) -> T:
            try:
                return await change(server, shards)
            except RedisError as exc:
                if is_cluster(server) and is_lost(exc):
                    raise  # the caller names the node
                exc.add_note(f"Redis at {redact_url(self.settings.redis_url)}")
                step = "list what is left, and run the command again"
                raise PartlyDone(f"{explain(exc)}. {PARTLY_DONE.capitalize()}: {step}") from exc

        return apply

    def ask_shard(self, number: int, question: "Callable[[Redis, Shard], Awaitable[T]]") -> T:
        """Return the result of a question or an act that needs one shard.

        Raises CommandError if its node of a cluster is away, and RedisError with a note.
        """
        from console.ask import ask_redis
        from console.queries.shards import ask_shard
        from stream.keys import Shard

        shard = Shard(self.settings.stream, number)
        return ask_redis(self.settings, lambda server: ask_shard(server, shard, question))

    @contextmanager
    def read(
        self, question: "Callable[[Redis, Sequence[Shard]], Awaitable[T]]"
    ) -> "Iterator[tuple[T, Sequence[AwayShard]]]":
        """Yield the result of a query over the shards that answer, and the shards that do not, to print the result.

        Raises CommandError, which names the missing shards, at the end of the block, and RedisError with a note.
        """
        from console.ask import ask_redis
        from console.queries.shards import read_answering, report_gaps

        settings = self.settings
        result, away = ask_redis(settings, lambda server: read_answering(server, settings, question))
        yield result, away
        report_gaps(away)

    def log(self, event: str, **pairs: object) -> None:
        """Log one line about a change to standard error."""
        from runtime import logs

        logs.write_line(self.settings.log_format, event, **pairs)

    def answer(self, value: object, people: str | Mapping[str, Any]) -> None:
        """Print the value with ``--json``, else the sentence or the pairs for people."""
        from console.output import print_json, print_line, print_pairs

        if self.as_json:
            print_json(value)
        elif isinstance(people, str):
            print_line(people)
        else:
            print_pairs(people)


@dataclass(frozen=True, slots=True)
class ChosenIds:
    """The entries that a command works on: those with the given ids, or all."""

    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="The ids that `list` shows.")] = None
    everything: Annotated[bool, typer.Option("--all", help="All that `list` shows.")] = False

    def parse(self, act: str) -> "list[EntryId] | None":
        """Return the ids without duplicates; None for all. Raises CommandError unless either ids or --all are given."""
        from console.format import parse_entry_id
        from runtime.errors import CommandError

        if bool(self.ids) == self.everything:
            raise CommandError(f"name the ids to {act}, or --all: `list` shows them")
        return list(dict.fromkeys(map(parse_entry_id, self.ids))) if self.ids else None
