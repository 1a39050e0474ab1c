"""Counts and finds messages in the tables of ``store``: roll-ups, lists and search.

Every function takes an engine and returns frozen values. Numbers of people are as stored; the caller masks them. Each
read has 5 seconds, and raises QueryTooSlow afterwards.
"""
