"""docker-compose.yml gives the processes the settings that they must have in common."""

import yaml

from deploy.docs.folders import ROOT
from ingest.auth.settings import SignatureSettings
from stream.settings import StreamSettings


def read_environment(service: str) -> dict[str, str]:
    """Return the environment of a service as the file has it."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    environment: dict[str, str] = services[service]["environment"]
    return environment


def test_the_console_verifies_the_quarantine_as_ingest_does() -> None:
    """It has each setting of signatures that ingest has. Without the method of receipts it could accept none."""
    names = SignatureSettings.names() - StreamSettings.names()
    settings, of_console = (
        {name: value for name, value in read_environment(service).items() if name[len("ACKSTREAM_") :].lower() in names}
        for service in ("ingest", "console")
    )

    assert len(settings) == 3
    assert of_console == settings
