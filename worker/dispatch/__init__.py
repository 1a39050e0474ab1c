"""Calls a handler: concurrency, timeouts, circuit breaker and pause.

Start with `dispatcher`.
"""
