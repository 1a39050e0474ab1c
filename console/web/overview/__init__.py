"""The data of the Overview, from the sampler's snapshot: JSON-ready, without HTML.

Start with `flow`.
"""
