"""What groups do with their events."""
