"""The rig: real processes under load and random faults, and a judge of its own who counts what became of each 200."""
