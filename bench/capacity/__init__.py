"""Costs of one status in every part, for ``ackstream plan``. Start with ``costs``, which writes them to a file."""
