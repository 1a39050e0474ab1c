"""The measuring rig: cores, processes, Ackstream, Valkey, databases, payloads, ratios. Imports no other folder."""
