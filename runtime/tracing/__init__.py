"""Traces with OpenTelemetry, off by default. Nothing else imports OpenTelemetry.

Start with `process`.
"""
