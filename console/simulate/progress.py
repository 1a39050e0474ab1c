"""Show the progress of a simulation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from console.simulate.messages import SimulatedWebhook


class SpeedColumn(ProgressColumn):
    """The recent number of messages a second."""

    def render(self, task: Task) -> Text:
        """Return the speed as text."""
        return Text(f"{task.finished_speed or task.speed or 0.0:,.0f}/s", style="progress.data.speed")


@contextmanager
def open_bar(messages: int | None, console: Console) -> Iterator[Callable[[SimulatedWebhook], None]]:
    """Show how many messages are complete; yields a function to call with each webhook that was sent.

    ``messages`` is their number, or None without an end.
    ``console`` writes to standard error; if that is not a terminal, nothing is shown.
    """
    columns = (TextColumn("messages"), BarColumn(), MofNCompleteColumn(), SpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=messages)
        yield lambda webhook: bar.advance(task) if webhook.is_last else None
