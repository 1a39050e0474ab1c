"""``ackstream doctor``: checks an installation, and names each problem with its consequence and its fix.

``catalogue.toml`` is the table of all findings. ``runner`` lists the checks and runs them. Start with ``runner``.
"""
