"""The checks that need a Redis server that answers: the server itself, its users, and the groups of the stream.

Start with `server`.
"""
