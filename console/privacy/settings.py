"""Settings of the commands that erase and export."""

from worker.retention.settings import ArchiveSettings
from worker.store.settings import DatabaseSettings


class PrivacySettings(DatabaseSettings, ArchiveSettings):
    """Where everything is stored. Set these as for ingest, workers and console."""
