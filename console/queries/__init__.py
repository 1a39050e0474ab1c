"""What the commands ask of Redis and the database. No output."""
