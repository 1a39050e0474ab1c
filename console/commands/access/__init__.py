"""``ackstream console user``, ``token`` and ``link``: access to the web console.

Start with `users`.
"""
