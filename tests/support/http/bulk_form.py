"""The forms with which the console's pages act on all entries of a cause."""

from typing import Any

from tests.support.http.console_server import Visitor

FIELDS = ("group", "cause")


async def fill_form(person: Visitor, twin: str, number: str = "count", **changes: str) -> dict[str, str]:
    """Return the form of an action on the first cause, as the page has it, with a reason.

    ``number`` is the field with the number of the confirmation.
    """
    data: Any = (await person.get(twin)).json()
    cause = data["cause"]
    form = {name: cause[name] for name in FIELDS if name in cause}
    return {**form, "through": data["through"], "expected": str(cause[number]), "why": "fixed", **changes}
