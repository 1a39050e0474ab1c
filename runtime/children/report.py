"""A child's report to its supervisor: whether it is ready, and its metrics, as one line of JSON.

prometheus-client's own mode for several processes writes each increment to a file, and does not know our counters for
frequent events. With reports an increment costs a child the same as a single process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Self

import orjson
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar

LONGEST_BYTES = 16 * 1024 * 1024
"""Of a line: a worker with hundreds of groups has some thousand samples of about 100 bytes."""


@dataclass(frozen=True, slots=True)
class ChildReport:
    """The state of a process. ``reason`` says why it is not ready; None if it is."""

    reason: str | None
    families: Sequence[Metric]

    def encode(self) -> bytes:
        """Return the line. Raises TypeError if JSON cannot hold a metric."""
        return orjson.dumps({"reason": self.reason, "families": list(map(_encode, self.families))}) + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Self:
        """Read a line of `encode`. Raises ValueError, KeyError or TypeError for a line of another version."""
        fields = orjson.loads(line)
        return cls(fields["reason"], list(map(_decode, fields["families"])))


def _encode(family: Metric) -> tuple[Any, ...]:
    samples = [
        (sample.name, sample.labels, _encode_number(sample.value), _parts(sample.exemplar)) for sample in family.samples
    ]
    return family.name, family.documentation, family.type, samples


def _encode_number(value: float) -> float | str:
    """Return NaN and infinity as text, because JSON has no numbers for them."""
    return value if isfinite(value) else str(value)


def _parts(exemplar: Exemplar | None) -> tuple[Any, ...] | None:
    return (exemplar.labels, exemplar.value, exemplar.timestamp) if exemplar else None


def _decode(parts: Sequence[Any]) -> Metric:
    name, documentation, kind, samples = parts
    family = Metric(name, documentation, kind)
    for sample, labels, value, exemplar in samples:
        family.add_sample(sample, labels, float(value), exemplar=Exemplar(*exemplar) if exemplar else None)
    return family
