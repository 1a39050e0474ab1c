"""One module a page: its data, its HTML, its actions and its JSON twins. Each has a list of its routes.

Start with `overview`.
"""
