"""Groups the newest dead letters, invalid and quarantined payloads by cause: how many, and does it still happen.

Start with `cause`; `newest` limits the number of entries that a question reads.
"""
