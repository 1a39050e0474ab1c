"""Ends each entry of a group: ack, delayed retry or dead letter.

Start with `ack_writer`, which batches the settlements; `settler` holds the scripts.
"""
