"""The console's own style sheet, script and libraries, served from memory. Their URLs have a hash of their content."""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiohttp import web

FOLDER = Path(__file__).parent / "static"
PREFIX = "/static"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file, its compressed form, and its URL."""

    url: str
    content_type: str
    content: bytes
    compressed: bytes


@cache
def load_files() -> Mapping[str, StaticFile]:
    """Return all static files by their path below the folder."""
    return {
        str(path.relative_to(FOLDER)): _load(path)
        for path in sorted(FOLDER.rglob("*"))
        if path.is_file() and path.suffix in TYPES
    }


def _load(path: Path) -> StaticFile:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    url = f"{PREFIX}/{digest}/{path.relative_to(FOLDER)}"
    return StaticFile(url, TYPES[path.suffix], content, gzip.compress(content, 9, mtime=0))


def url_of(name: str) -> str:
    """Return the URL of a static file. Raises KeyError."""
    return load_files()[name].url


async def serve_file(request: web.Request) -> web.Response:
    """Answer with a file, which browsers keep for ever. Another hash is not found: the file has changed."""
    file = load_files().get(request.match_info["name"])
    if file is None or file.url != request.path:
        raise web.HTTPNotFound
    headers = {"Cache-Control": _FOREVER, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return web.Response(body=file.compressed, content_type=file.content_type, charset="utf-8", headers=headers)
    return web.Response(body=file.content, content_type=file.content_type, charset="utf-8", headers=headers)
