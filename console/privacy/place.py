"""The interface of a place: it finds the records of a selection in pages, and erases them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from console.privacy.selection import Record, Selection

Pages = AsyncIterator[Sequence[Record]]


class Unreachable(Exception):  # noqa: N818 - the eraser reports it and goes on
    """Records of a place stay. The text names the place, the reason and the next step."""

    def __init__(self, text: str, erased: int = 0) -> None:
        super().__init__(text)
        self.erased = erased
        """How many other records of the page were erased."""


class DataPlace(Protocol):
    """A place, or a part of one such as the dead letters of one group. Its names are in `console.privacy.places`."""

    name: str
    seen: int
    """How many records it has read."""

    def find(self, selection: Selection, /) -> Pages:
        """Yield the records of the selection, with an empty page now and then for the progress.

        Raises Unreachable after the last page if it could not read everything.
        """

    async def erase(self, records: Sequence[Record], selection: Selection, /) -> Mapping[str, int]:
        """Erase a page of records; return how many were erased, by the name of the place. Raises Unreachable."""
