"""The checks that work without Redis, one module for each part that is checked.

A check is a coroutine that takes a Setup and returns findings. Most judge in pure functions what they have read.
"""
