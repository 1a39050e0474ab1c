"""Send made-up webhooks to ingest.

Start with `sender`.
"""
