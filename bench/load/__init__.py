"""Load generators: closed loop, open loop, slow clients, live entries."""
