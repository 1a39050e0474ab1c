"""Order mode: a checker of calls, and workers without their loops."""
