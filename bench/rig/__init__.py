"""The measuring rig: cores, processes, servers, databases, payloads, ratios."""
