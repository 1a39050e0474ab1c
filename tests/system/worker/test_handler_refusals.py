"""A worker whose handlers cannot be loaded ends at its start with one sentence that shows no secret."""

from pathlib import Path

import pytest

from tests.support.processes import ackstream


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"handlers": "store", "handlers_file": "h"}, "ACKSTREAM_HANDLERS and ACKSTREAM_HANDLERS_FILE are both set"),
        ({"handlers_file": "h"}, "ACKSTREAM_HANDLERS_FILE: 'h', line 2: 'nothing' is not a handler: write store, log,"),
        ({"handlers_file": "missing"}, "ACKSTREAM_HANDLERS_FILE: 'missing' cannot be read (No such file or directory)"),
        (
            {"handlers": "forward:http://127.0.0.1:1/?key=hunter2#header.X-Key=@missing"},
            "the file 'missing' of the header X-Key of a forward handler cannot be read",
        ),
        (
            {"handlers": "log,shop=forward:http://127.0.0.1:1/?key=hunter2#header.webhook-id=hunter2"},
            "handler 2: forward sets the header webhook-id itself: remove it",
        ),
        (
            {"handlers": "nowhere:handle"},
            "handler 'nowhere:handle': no module 'nowhere' on PYTHONPATH",
        ),
        ({"handlers": "broken:handle"}, "handler 'broken:handle': importing 'broken' raises KeyError at broken.py:2"),
    ],
)
async def test_a_worker_says_what_is_wrong_with_its_handlers(
    tmp_path: Path, settings: dict[str, str], sentence: str
) -> None:
    """Exit code 1, no traceback, no part of a URL or a header."""
    (tmp_path / "h").write_text("store\nnothing\n")
    (tmp_path / "broken.py").write_text("secret = 'hunter2'\nprint({}[secret])\n")

    with ackstream("worker", folder=tmp_path, redis_url="redis://127.0.0.1:1", **settings) as worker:
        code = await worker.wait_for_end(30)

    output = " ".join(worker.said.split())
    assert (code, sentence in output) == (1, True), output
    assert "Traceback" not in output
    assert "hunter2" not in output
