"""The actions on dead letters, invalid and quarantined payloads: replay, accept, discard, one or many.

Start with `bulk`: it counts again, acts once, and records the action in the audit log.
"""
