"""``ackstream plan`` and ``ackstream shards``: the size of an installation.

`plan` computes it; `shards` changes the number of shards.
"""
