"""Access to the console: users, sessions, tokens, sign-in links, the checks of each request, and the audit log.

Start with `guard`.
"""
