"""A process's standard output as a pipe: read, stalled or closed at the reading end."""

import asyncio
import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.support.processes import Process, start_process

PIPE_BYTES = 4096
READ_BYTES = 65536


class LogPipe:
    """Copies the data of a named pipe to the file that has the standard error of the process."""

    def __init__(self, pipe: Path) -> None:
        os.mkfifo(pipe)
        self._pipe = pipe
        self._reader: int | None = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self._writer = os.open(pipe, os.O_WRONLY)  # kept, so that a reader has_seen_loss no end between two processes
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._output = Path(os.devnull)
        self._is_read = False

    def start(
        self, command: tuple[str, ...], folder: Path, name: str, environment: Mapping[str, str] | None
    ) -> Process:
        """Start a process whose standard output is the pipe."""
        first = self._output == Path(os.devnull)
        process = start_process(command, folder, name, environment, stdout=self._writer)
        self._output = process.output
        if first:
            self.read()
        return process

    def read(self) -> None:
        """Read all data of the pipe, now and later."""
        if self._reader is None:
            self._reader = os.open(self._pipe, os.O_RDONLY | os.O_NONBLOCK)
        asyncio.get_running_loop().add_reader(self._reader, self._copy, self._reader)
        self._is_read = True

    def stall(self) -> None:
        """Stop reading, and fill the pipe."""
        if not self._is_read or self._reader is None:
            return
        self._stop_reading(self._reader)
        filler = os.open(self._pipe, os.O_WRONLY | os.O_NONBLOCK)
        for piece in (b"#" * PIPE_BYTES, b"#\n"):
            with suppress(BlockingIOError):
                while True:
                    os.write(filler, piece)
        os.close(filler)

    def leave(self) -> None:
        """Close the reading end: a process that writes gets EPIPE."""
        if self._is_read and self._reader is not None:
            self._stop_reading(self._reader)
            os.close(self._reader)
            self._reader = None

    def close(self) -> None:
        """Close both ends."""
        self.leave()
        os.close(self._writer)

    def _stop_reading(self, reader: int) -> None:
        asyncio.get_running_loop().remove_reader(reader)
        self._is_read = False

    def _copy(self, reader: int) -> None:
        with suppress(BlockingIOError), self._output.open("ab") as file:
            file.write(os.read(reader, READ_BYTES))
