"""Faults of real servers, processes, networks and disks. Each lasts for a block. Tests and tests/chaos use them."""
