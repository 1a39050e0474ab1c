"""A clock that a test moves."""


class FakeClock:
    """A clock that stops, and moves only when a test sets `now`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
