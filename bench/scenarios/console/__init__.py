"""Measurements of the web console; each is a program of its own."""
