"""Handlers for the measurements."""
