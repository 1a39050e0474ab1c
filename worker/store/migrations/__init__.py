"""Brings the database's tables up to date. Used by ``ackstream migrate``; workers only check the revision."""
