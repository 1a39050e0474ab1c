"""What the console shows live: one sampler for all viewers, the history of its samples, and the alerts.

Start with `sampler`.
"""
