"""The fixtures of one file of a spool."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ingest.spool.file import SpoolFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file in an empty spool."""
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool" / "000001.db"


@pytest.fixture
def file(path: Path) -> Iterator[SpoolFile]:
    """Yield an empty file."""
    with closing(SpoolFile.create(path)) as file:
        yield file
