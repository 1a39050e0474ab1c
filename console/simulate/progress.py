"""The progress bar of a simulation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from console.simulate.messages import SimulatedWebhook


class SpeedColumn(ProgressColumn):
    """Messages a second, as they were lately."""

    def render(self, task: Task) -> Text:
        """Return the speed as text."""
        return Text(f"{task.finished_speed or task.speed or 0.0:,.0f}/s", style="progress.data.speed")


@contextmanager
def open_bar(messages: int, console: Console) -> Iterator[Callable[[SimulatedWebhook], None]]:
    """Show how many of so many messages are sent whole; yields what is called with each webhook that was sent.

    ``console`` is one of standard error; where that is no terminal nothing is shown.
    """
    columns = (TextColumn("messages"), BarColumn(), MofNCompleteColumn(), SpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        sending = bar.add_task("", total=messages)
        yield lambda webhook: bar.advance(sending) if webhook.is_last else None
