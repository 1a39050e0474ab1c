"""``ackstream erase`` and ``export``: everything that is stored about a person.

Start with `erase`; `subject` has the options of both.
"""
