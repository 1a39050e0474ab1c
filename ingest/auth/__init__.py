"""Checks whether a webhook comes from the provider.

Start with `policy`. `verifier` checks tokens (`jwt`) and receipts (`receipts`); `quarantine` keeps rejected payloads.
"""
