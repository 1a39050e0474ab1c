"""The report of a simulation, for people or programs, and what to do if nothing was accepted."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from console.output import print_json, print_pairs

_NEXT_STEPS = {
    "401": "the signature is not accepted: give simulate the ACKSTREAM_SIGNATURE_SECRETS that ingest has",
    "404": "ingest does not take webhooks on this path: give one of its ACKSTREAM_PATHS in --url",
    "405": "something else than ingest listens there: check --url",
    "413": "the webhooks are larger than ACKSTREAM_MAX_BODY of ingest",
}
_UNSIGNED = (
    "signatures are required there, perhaps: set ACKSTREAM_SIGNATURE_SECRETS for simulate too, to what ingest has; "
    "else look at ingest's /ready and its log"
)
_SIGNED = (
    "the secrets are not those of ingest (ACKSTREAM_SIGNATURE_SECRETS), or it can store nothing: look at its /ready "
    "and its log"
)


@dataclass(frozen=True, slots=True)
class LatencyMs:
    """Milliseconds from sending a webhook to the end of its answer. The percentiles are at most 1 % too high."""

    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the webhooks: ``webhooks`` = accepted + refused + unanswered + unfinished.

    ``accepted`` were answered 2xx at last, ``refused`` otherwise, ``unanswered`` not at all (not connected, cut off, or
    later than ANSWER_SECONDS), ``unfinished`` were in flight or waited for a repeat when it was stopped. ``sent``
    counts requests, ``repeated`` those that were repeats, ``answered`` all by status code, or ``no answer``.
    ``rate`` is requests a second over ``seconds``. ``latency_ms`` is of those that were answered, whatever the code;
    None if none was.
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
        """Return the report as what JSON can hold, under the fields' names."""
        return asdict(self)

    def to_json(self) -> str:
        """Return the report as one line of JSON."""
        return orjson.dumps(self.as_dict()).decode()

    def explain_failure(self, url: str, *, signed: bool) -> str | None:
        """Return a sentence with the next step if nothing was accepted; None if something was, or nothing was sent."""
        if self.accepted or not self.sent:
            return None
        answers = sorted(self.answered, key=lambda answer: -self.answered[answer])
        if answers == ["no answer"]:
            return f"nothing answers at {url}: start `ackstream up` (or `ackstream ingest`), or give --url"
        most = next(answer for answer in answers if answer != "no answer")
        step = _NEXT_STEPS.get(most)
        if step is None:
            step = (_SIGNED if signed else _UNSIGNED) if most == "503" else "look at the log of what listens there"
        return f"nothing was accepted at {url}, most answers were {most}: {step}"


def print_report(report: Mapping[str, Any], *, as_json: bool) -> None:
    """Show how a simulation was answered."""
    if as_json:
        print_json(report)
        return
    nested = {"answered": "", "latency_ms": " ms"}
    flat = {name: value for name, value in report.items() if name not in nested}
    for name, unit in nested.items():
        flat |= {f"{name.removesuffix('_ms')} {key}": f"{value}{unit}" for key, value in (report[name] or {}).items()}
    print_pairs(flat)
