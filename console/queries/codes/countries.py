"""Finds the country of a network code. The table is read once.

``country_codes.tsv`` has the mobile country codes (MCC) of the ITU: the list of "Mobile Country or Geographical Area
Codes", a complement to Recommendation E.212 (https://www.itu.int/rec/T-REC-E.212), with short names of the countries.
"""

import re
from functools import cache
from importlib.resources import files

_NETWORK = re.compile(r"(\d{3})\d{2,3}", re.ASCII)


@cache
def read_countries() -> dict[str, str]:
    """Return the names of the countries by MCC."""
    lines = files(__package__).joinpath("country_codes.tsv").read_text("utf-8").splitlines()
    return {code: name for name, _, codes in (line.partition("\t") for line in lines) for code in codes.split()}


def find_country(network: str) -> str | None:
    """Return the country of a network code (MCC and MNC); None if it is not a code of the list."""
    match = _NETWORK.fullmatch(network)
    return read_countries().get(match[1]) if match else None
