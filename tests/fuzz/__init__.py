"""Random input for the real processes, from a printed seed: `make fuzz SECONDS=60`, or SEED=… to repeat one.

Three runs, each so long: requests, which are good ones with random mutations, sent to `ackstream ingest` over raw
sockets, once unsigned and once signed; and entries of random fields, put straight into the stream for `ackstream
worker`. Nothing may answer 500, crash, hang, write a traceback or get stuck, and afterwards a good one passes. All of
it stays on loopback.
"""
