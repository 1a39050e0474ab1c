"""Several processes of one command on one port: a supervisor starts them, restarts them and reports them as one.

Start with `supervisor`; `child` is the side of the processes that do the work.
"""
