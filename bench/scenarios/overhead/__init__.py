"""The cost of optional parts."""
