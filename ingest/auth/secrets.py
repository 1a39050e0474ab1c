"""The accounts' signature secrets, as an operator writes them."""

from collections.abc import Mapping

from runtime.errors import WrongValue

Secrets = Mapping[str, tuple[bytes, ...]]
"""Each account's live secrets: several while one is changed."""


def parse_secrets(text: str) -> dict[str, tuple[bytes, ...]]:
    """Take ``api_key:secret`` items, separated by commas or lines. A key may come several times: all are live.

    A line that starts with # is a comment. Raises ValueError, which names an item by its number and has nothing of it
    in its text.
    """
    secrets: dict[str, tuple[bytes, ...]] = {}
    lines = [line for line in text.removeprefix("\ufeff").split("\n") if not line.lstrip().startswith("#")]
    items = [stripped for item in ",".join(lines).split(",") if (stripped := item.strip())]
    for number, item in enumerate(items, start=1):
        key, _, secret = (part.strip() for part in item.partition(":"))
        if not key or not secret:
            raise WrongValue(f"item {number} is not written api_key:secret")
        try:
            previous, new = secrets.get(key, ()), secret.encode()
        except UnicodeEncodeError:
            raise WrongValue(f"item {number} is not UTF-8") from None  # the cause holds the secret
        secrets[key] = previous if new in previous else (*previous, new)
    if not secrets:
        raise WrongValue("there is no item; one is written api_key:secret")
    return secrets


def describe_secrets(secrets: Secrets) -> str:
    """Return how many there are, such as ``2 accounts, 3 secrets``."""
    accounts, live = len(secrets), sum(map(len, secrets.values()))
    return f"{accounts} account{'s' * (accounts != 1)}, {live} secret{'s' * (live != 1)}"
