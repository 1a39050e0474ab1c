"""The faults of a run: a catalogue of kinds, and the schedule of each round."""
