"""The way of one message: its webhooks, and the state of each in every group. Start with `timeline`."""
