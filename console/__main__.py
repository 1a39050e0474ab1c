"""The `ackstream` command; `python -m console` is the same."""

import os
import sys
from importlib.util import find_spec

from runtime.errors import INTERRUPTED

CLOSED_PIPE = 141


def main() -> None:
    """Run one command. Whatever a person can cause ends in a sentence on standard error and exit code 1.

    Ctrl-C ends with 130; a reader of standard output that is gone, as in ``| head``, ends with 141 and no word.
    """
    _open_missing_outputs()
    try:
        if find_spec("typer") is None:
            sys.exit("ackstream: typer is missing: pip install 'ackstream[console]'")
        from console.main import app  # noqa: PLC0415 - a missing library is explained before it is imported

        try:
            app()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes standard output once more at its end
        sys.exit(CLOSED_PIPE)
    except Exception as exc:
        from console.errors import explain  # noqa: PLC0415 - nothing to explain, nothing to load

        sentence = explain(exc)
        if sentence is None:
            raise  # a fault of ours: its traceback is what a report needs
        sys.exit(f"ackstream: {sentence}")


def _open_missing_outputs() -> None:
    """Give a process that was started with closed outputs something to write to."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 - open for the life of the process


if __name__ == "__main__":
    main()
