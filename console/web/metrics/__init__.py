"""Metrics of other processes as numbers: the text of ``/metrics``, histograms, and counters that restart at 0.

Start with `exposition`.
"""
