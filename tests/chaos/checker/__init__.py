"""The checker, a process that sends each load, and compares the messages answered 200 with the tables and logs."""
