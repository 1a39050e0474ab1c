"""Settles each entry of a group: acks, delays or dead-letters it.

Start with `ack_writer`, which batches the settlements; `settler` runs the scripts.
"""
