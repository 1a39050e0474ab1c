"""The roles of the console. Each role includes the rights of those before it."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self


class Role(IntEnum):
    """The rights of a person or token."""

    VIEWER = 1
    """Sees all pages, with numbers masked."""
    OPERATOR = 2
    """Also acts: replays, discards, pauses, reveals."""
    ADMIN = 3
    """Also drops groups, and erases messages."""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Parse a role's name. Raises ValueError."""
        try:
            return cls[text.upper()]
        except KeyError:
            raise ValueError(f"{text!r} is not a role: viewer, operator or admin") from None

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Identity:
    """The person or token that sends a request. ``address`` is the client's IP address."""

    name: str
    role: Role
    address: str = ""

    def can(self, role: Role) -> bool:
        """Whether this identity has the rights of the role."""
        return self.role >= role
