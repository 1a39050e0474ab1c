"""Order mode: the events of a message reach a handler one at a time, in the order of their entries.

Start with `message_order`; `gate` decides which event may go now, `ownership` which worker has a shard.
"""
