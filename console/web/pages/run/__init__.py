"""The pages that control Ackstream: replays, groups and workers, settings and the audit log.

Start with `replays`.
"""
