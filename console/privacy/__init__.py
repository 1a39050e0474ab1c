"""Erases and exports everything that is stored about a number, a message or a client reference.

Start with `places`, the table of all places; `selection` decides what belongs to a person, `eraser` walks the places.
"""
