"""The numbers of the console: one sampler reads Redis and the metrics of all processes, for all pages and viewers.

Start with `snapshot`, the types of one moment, and `sampler`, which makes them.
"""
