"""The built-in handlers, the loading of functions, and the text form of a handler.

Start with `spec`; `errors` lists the exceptions that a handler may raise.
"""
