"""The variables of OpenTelemetry that Ackstream checks or needs itself. The SDK reads the others.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from typing import Literal, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtime.errors import CommandError

PREFIX = "OTEL_"
DEFAULT_SHARE = 0.01
ONLY_PROTOCOL = "http/protobuf; this version has no other protocol, so use the port of OTLP over HTTP, usually 4318"

Protocol = Literal["http/protobuf"]


class OtelSettings(BaseSettings):
    """OpenTelemetry's variables for the sampler, the protocol and the queue of spans."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    sdk_disabled: bool = Field(False, description="true or false")
    traces_sampler: (
        Literal[
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ]
        | None
    ) = Field(None, description="always_on, always_off or traceidratio, each also with parentbased_ before it")
    traces_sampler_arg: float | None = Field(
        None, ge=0, le=1, description="the share of webhooks to trace, 0 to 1: for example 0.01"
    )
    exporter_otlp_protocol: Protocol = Field("http/protobuf", description=ONLY_PROTOCOL)
    exporter_otlp_traces_protocol: Protocol = Field("http/protobuf", description=ONLY_PROTOCOL)
    bsp_max_queue_size: int = Field(2048, ge=1, description="how many ended spans may wait for their export")

    @classmethod
    def load(cls) -> Self:
        """Read the environment. Raises CommandError, which lists every invalid variable."""
        try:
            return cls()
        except ValidationError as exc:
            raise CommandError("\n".join(map(cls._fault, exc.errors()))) from None

    @property
    def share(self) -> float:
        """The share of webhooks to trace: 1 % unless the sampler says otherwise."""
        if self.traces_sampler is None:
            return DEFAULT_SHARE if self.traces_sampler_arg is None else self.traces_sampler_arg
        if self.traces_sampler.endswith("traceidratio"):
            return 1.0 if self.traces_sampler_arg is None else self.traces_sampler_arg
        return float(self.traces_sampler.endswith("always_on"))

    @classmethod
    def _fault(cls, error: object) -> str:
        assert isinstance(error, dict)  # noqa: S101 - pydantic's form of an error
        name = str(error["loc"][0])
        expected = cls.model_fields[name].description
        return f"{PREFIX}{name.upper()}: {error['input']!r} is not valid; expected {expected}"
