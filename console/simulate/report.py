"""Report a simulation to people or programs, with the next step if nothing was accepted."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from console.output import print_json, print_pairs

_NEXT_STEPS = {
    "401": "ingest rejects the signature: give simulate the ACKSTREAM_SIGNATURE_SECRETS that ingest has",
    "404": "ingest accepts no webhooks on this path: use one of its ACKSTREAM_PATHS in --url",
    "405": "another program than ingest listens there: check --url",
    "413": "the webhooks are larger than the ACKSTREAM_MAX_BODY of ingest: raise it",
}
_UNSIGNED = (
    "ingest may require signatures: set ACKSTREAM_SIGNATURE_SECRETS for simulate to the value that ingest has; "
    "otherwise see the /ready page and the log of ingest"
)
_SIGNED = (
    "the secrets differ from those of ingest (ACKSTREAM_SIGNATURE_SECRETS), or ingest cannot store payloads: see its "
    "/ready page and its log"
)


@dataclass(frozen=True, slots=True)
class LatencyMs:
    """Milliseconds from sending a webhook to the end of the response. The percentiles are at most 1 % too high."""

    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Report:
    """The results of the webhooks: ``webhooks`` = accepted + refused + unanswered + unfinished.

    The last response to an ``accepted`` webhook was 2xx, and to a ``refused`` one another status. An ``unanswered``
    webhook got no response: no connection, a closed one, or later than ANSWER_SECONDS. An ``unfinished`` one was in
    flight or waited for a repeat at the stop. ``sent`` counts requests, ``repeated`` the repeats among them.
    ``answered`` counts requests by status code, or ``no answer``. ``rate`` is requests a second over ``seconds``.
    ``latency_ms`` covers all responses with any status; None without a response.
    """

    webhooks: int
    sent: int
    repeated: int
    accepted: int
    refused: int
    unanswered: int
    unfinished: int
    answered: dict[str, int]
    seconds: float
    rate: float
    latency_ms: LatencyMs | None

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a dictionary for JSON."""
        return asdict(self)

    def to_json(self) -> str:
        """Return the report as one line of JSON."""
        return orjson.dumps(self.as_dict()).decode()

    def explain_failure(self, url: str, *, signed: bool) -> str | None:
        """Return a sentence with the next step if nothing was accepted; None if a webhook was, or none was sent."""
        if self.accepted or not self.sent:
            return None
        answers = sorted(self.answered, key=lambda answer: -self.answered[answer])
        if answers == ["no answer"]:
            return f"nothing answers at {url}: start `ackstream up` (or `ackstream ingest`), or give --url"
        status = next(answer for answer in answers if answer != "no answer")
        step = _NEXT_STEPS.get(status)
        if step is None:
            step = (_SIGNED if signed else _UNSIGNED) if status == "503" else "see the log of the server there"
        return f"nothing was accepted at {url}, most responses were {status}: {step}"


def print_report(report: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the report of a simulation."""
    if as_json:
        print_json(report)
        return
    nested = {"answered": "", "latency_ms": " ms"}
    flat = {name: value for name, value in report.items() if name not in nested}
    for name, unit in nested.items():
        flat |= {f"{name.removesuffix('_ms')} {key}": f"{value}{unit}" for key, value in (report[name] or {}).items()}
    print_pairs(flat)
