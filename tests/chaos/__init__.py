"""Chaos runs: real processes under load and random faults, and a checker that follows each payload answered 200."""
