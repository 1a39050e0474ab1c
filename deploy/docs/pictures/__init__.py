"""Draws the pictures of the documentation: ``python -m deploy.docs.pictures`` writes SVG for light and dark pages.

`canvas` has the shapes and the colours; every other module draws one picture.
"""
