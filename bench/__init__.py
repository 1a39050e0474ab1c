"""How fast Ackstream is, as ratios to what one would use instead, each within one interleaved run.

``python -m bench`` (or ``make bench``) starts everything it measures on loopback, in a temporary folder, and ends it.
What is measured has one core for itself; the load, Valkey and PostgreSQL share another. Absolute rates drift by a third
between runs of the same code on the same machine: only the ratios mean anything.
"""
