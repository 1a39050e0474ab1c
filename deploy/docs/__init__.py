"""Builds what the documentation has from the code: reference pages (`reference`), pictures and the site.

`make reference` writes the pages of docs/reference/. Start reading at `reference`.
"""
