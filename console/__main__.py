"""The `ackstream` command; `python -m console` is the same."""

import gc
import os
import sys
from importlib.util import find_spec
from io import TextIOWrapper

from runtime.errors import INTERRUPTED

CLOSED_PIPE = 141
GC_THRESHOLD = 250_000
"""Imports make many objects and no garbage: ingest 120,000, the console 240,000. At a threshold of 100,000 the start of
ingest takes a sixteenth longer, at Python's 700 a seventh."""


def main() -> None:
    """Run one command. An error that a user can cause prints one sentence to standard error and exits with 1.

    Ctrl-C exits with 130. A closed standard output, as with ``| head``, exits with 141 and prints nothing.
    """
    gc.set_threshold(GC_THRESHOLD)
    _open_missing_streams()
    _allow_any_text()
    try:
        if find_spec("typer") is None:
            sys.exit("ackstream: typer is missing: pip install 'ackstream[console]'")
        from console.main import make_app  # noqa: PLC0415 - imported only after the check above

        try:
            make_app(sys.argv[1:])()
        finally:
            if not sys.stdout.closed:  # a handler may have closed it
                sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes standard output again at exit
        sys.exit(CLOSED_PIPE)
    except Exception as exc:
        from console.errors import explain  # noqa: PLC0415 - loaded only after an error

        sentence = explain(exc)
        if sentence is None:
            raise  # a bug in Ackstream: the bug report needs the traceback
        sys.exit(f"ackstream: {sentence}")


def _open_missing_streams() -> None:
    """Open the null device as standard input, output or error if the parent closed it.

    Else a socket that a child process inherits could get the number 0, and the child would lose it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123 - open for the life of the process


def _allow_any_text() -> None:
    """Print characters that the terminal's encoding lacks as escapes, and read bytes that are not text."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=errors)


if __name__ == "__main__":
    main()
