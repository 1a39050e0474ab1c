"""Capacity planning: computes machines, memory and disk for a rate from measured costs. No I/O but the table.

``costs.json`` has the costs of one status in each part; ``python -m bench.capacity.costs`` writes it. ``capacity``
computes, ``report`` prints. Start with ``capacity``.
"""
