"""Options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path | None, typer.Option(help="The data folder (default ./ackstream-data).")]
RedisUrl = Annotated[
    str | None, typer.Option(help="redis://, rediss://, unix:// or redis+sentinel:// URL (default: the running `up`).")
]
DatabaseUrl = Annotated[str | None, typer.Option(help="sqlite:///path or postgresql://user:password@host/database.")]
AdminHost = Annotated[str | None, typer.Option(help="Address of the admin port (default 127.0.0.1).")]
AdminPort = Annotated[int | None, typer.Option(help="Port of /live, /ready and /metrics; 0 takes a free one.")]
StopWithStdin = Annotated[
    bool,
    typer.Option("--stop-with-stdin", help="Stop when standard input ends: for a parent process that may be killed."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print everything as JSON, for programs.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Show phone numbers and error messages in full.")]
