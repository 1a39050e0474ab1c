"""Reads the parameters of the URL of a webhook. No I/O."""

from collections.abc import Mapping
from itertools import islice

from stream.entry import Entry
from stream.payload import FORM, Fields, decode_form
from worker.events.delivery_receipt import other_fields
from worker.events.text import LONGEST_TEXT, clean

MOST_PARAMETERS = 100


def read_query(entry: Entry, receipt_fields: Fields | None) -> Mapping[str, str]:
    """Return the parameters of the URL, without those that are too long.

    The query of a GET is the payload, so the parameters are mixed with the fields of the receipt.
    """
    if entry.query is not None:
        parameters: Fields = decode_form(entry.query)
    elif receipt_fields is not None and entry.content_type == FORM:
        parameters = other_fields(receipt_fields)
    else:
        return {}
    first = islice(parameters.items(), MOST_PARAMETERS)
    texts = ((clean(name), clean(value)) for name, value in first if isinstance(value, str))
    return {name: text for name, text in texts if len(name) <= LONGEST_TEXT >= len(text)}
