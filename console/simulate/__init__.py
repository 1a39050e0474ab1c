"""Sends made-up webhooks to an ingest.

Start with `sender`.
"""
