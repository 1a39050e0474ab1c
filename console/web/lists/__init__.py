"""The parts that several list pages share: times of a filter, and lists as CSV files."""
