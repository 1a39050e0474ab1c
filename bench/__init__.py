"""Benchmarks: ratios of Ackstream to the alternatives, each taken within one interleaved run.

``python -m bench`` (or ``make bench``) starts everything on loopback, in a temporary folder, and ends it.
The measured process has one core for itself; the load, Valkey and PostgreSQL share another. Rates drift by a third
between runs of the same code on the same machine: only the ratios mean anything.
"""
