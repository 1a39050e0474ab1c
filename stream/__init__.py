"""The stream contract: what an entry is, what keys are called, how servers are reached and processes watched."""
