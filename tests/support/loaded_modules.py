"""Runs `ackstream ARGUMENTS`; lists its modules in a file when SIGUSR1 comes: `loaded_modules.py FILE ARGUMENTS`."""

import signal
import sys
from pathlib import Path

from console.__main__ import main

if __name__ == "__main__":
    file = Path(sys.argv.pop(1))
    draft = file.with_suffix(".draft")

    def write(*_: object) -> None:
        draft.write_text("\n".join(sorted(sys.modules)))
        draft.rename(file)

    signal.signal(signal.SIGUSR1, write)
    main()
