"""The console's port: its listener, and the limits of its connections and of slow clients.

Start with ``listener``.
"""
