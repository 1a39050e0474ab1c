"""The web console: pages for people, and the same data as JSON under ``/api/v1``.

Start with `routes`: it lists every page, action and API route. `app` connects the parts.
"""
