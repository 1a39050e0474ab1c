"""OpenTelemetry's own variables."""

import pytest

from runtime.errors import CommandError
from runtime.tracing.process import open_tracing
from runtime.tracing.settings import OtelSettings


@pytest.mark.parametrize(
    ("sampler", "argument", "share"),
    [
        ("", "", 0.01),
        ("", "0.2", 0.2),
        ("always_on", "0.2", 1.0),
        ("parentbased_always_on", "", 1.0),
        ("always_off", "", 0.0),
        ("parentbased_always_off", "1", 0.0),
        ("traceidratio", "0.5", 0.5),
        ("parentbased_traceidratio", "", 1.0),
    ],
)
def test_the_sampler_gives_the_share_of_webhooks(
    monkeypatch: pytest.MonkeyPatch, sampler: str, argument: str, share: float
) -> None:
    """Each standard sampler gives the share that it has for requests without a parent; without a sampler it is 1 %."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)

    assert OtelSettings.load().share == share


async def test_a_variable_that_cannot_be_followed_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names each such variable and the expected values."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "jaeger_remote")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "2")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")

    with pytest.raises(CommandError) as error:
        async with open_tracing("otlp", "tested"):
            pass

    sampler, argument, protocol = str(error.value).splitlines()
    assert sampler.startswith("OTEL_TRACES_SAMPLER: 'jaeger_remote' is not valid; expected always_on, ")
    assert argument.startswith("OTEL_TRACES_SAMPLER_ARG: '2' is not valid; expected the share of webhooks")
    assert protocol.startswith("OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' is not valid; expected http/protobuf; ")


async def test_a_disabled_sdk_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """`OTEL_SDK_DISABLED` turns traces off like `ACKSTREAM_TRACING=off`."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")

    async with open_tracing("otlp", "tested") as tracing:
        assert tracing is None
