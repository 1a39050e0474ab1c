"""Calls a handler, with limits on concurrency and time, a circuit breaker and a pause.

Start with `dispatcher`.
"""
