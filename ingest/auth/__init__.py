"""Decides whether a webhook comes from the provider.

Start with `policy`; `jwt` and `receipts` verify the two kinds of signature.
"""
