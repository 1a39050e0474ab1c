"""Streams a list as a CSV file for spreadsheets."""

import csv
import io
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from aiohttp import web

MOST_ROWS = 100_000
CUT = f"Cut after {MOST_ROWS:,} rows: choose a shorter time or more filters."

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_rows(rows: Sequence[Sequence[object]]) -> bytes:
    """Return rows as CSV in UTF-8. A text that a spreadsheet would run as a formula gets an apostrophe in front.

    https://owasp.org/www-community/attacks/CSV_Injection
    """
    text = io.StringIO()
    csv.writer(text).writerows([[_cell(value) for value in row] for row in rows])
    return text.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


async def send_csv(
    request: web.Request, name: str, columns: Sequence[str], pages: AsyncGenerator[Sequence[Sequence[object]], None]
) -> web.StreamResponse:
    """Send the columns' names and then each page of rows as a file. After MOST_ROWS the last row says that it is cut.

    An error before the first page is raised; a later one ends the connection, so that no cut file looks whole.
    """
    try:
        first = await anext(pages)
    except StopAsyncIteration:
        first = ()
    response = web.StreamResponse(headers={"Content-Disposition": f'attachment; filename="{name}"'})
    response.content_type, response.charset = "text/csv", "utf-8"
    if request.method == "HEAD":
        await pages.aclose()
        return response
    response.enable_compression()
    await response.prepare(request)
    await response.write(write_rows([columns, *first[:MOST_ROWS]]))
    count = len(first)
    async with aclosing(pages):
        async for page in pages:
            await response.write(write_rows(page[: MOST_ROWS - count]))
            count += len(page)
            if count > MOST_ROWS:
                await response.write(write_rows([[CUT]]))
                break
    await response.write_eof()
    return response
