"""The provider's example payloads, each in the form in which it comes over HTTP."""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "fixtures" / "vonage"
NAMES = sorted(path.name for path in FOLDER.iterdir())


@dataclass(frozen=True, slots=True)
class Example:
    """One example as an HTTP request: for a GET the payload is its query."""

    name: str
    method: str
    path: str
    content_type: str
    payload: bytes

    @property
    def url(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.payload.decode()}" if self.method == "GET" else self.path


def example(name: str) -> Example:
    """Read one example. The .http files are whole requests; the others are JSON bodies."""
    content = (FOLDER / name).read_bytes()
    if not name.endswith(".http"):
        path = "/webhooks/delivery-receipt" if name.startswith("dlr") else "/webhooks/message-status"
        return Example(name, "POST", path, "application/json", content)
    head, _, body = content.replace(b"\r\n", b"\n").partition(b"\n\n")
    request, *headers = head.decode().split("\n")
    method, target, _ = request.split(" ")
    path, _, query = target.partition("?")
    types = [header.partition(": ")[2] for header in headers if header.lower().startswith("content-type:")]
    return Example(name, method, path, types[0] if types else "", query.encode() if method == "GET" else body)
