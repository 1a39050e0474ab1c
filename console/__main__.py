"""The `ackstream` command; `python -m console` is the same."""

import sys

from runtime.errors import Refusal


def main() -> None:
    """Run the command line; without its libraries, say how to get them."""
    try:
        from console.main import app  # noqa: PLC0415 - so that a missing library is told in a sentence
    except ModuleNotFoundError as exc:
        sys.exit(f"ackstream: {exc.name} is missing: pip install 'ackstream[console]'")
    try:
        app()
    except Refusal as exc:
        sys.exit(f"ackstream: {exc}")


if __name__ == "__main__":
    main()
