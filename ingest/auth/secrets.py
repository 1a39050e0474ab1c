"""The accounts' signature secrets, as an operator writes them."""

from collections.abc import Mapping

from runtime.errors import WrongValue

Secrets = Mapping[str, tuple[bytes, ...]]
"""The live secrets of each account; an account has several during a rotation."""


def parse_secrets(text: str) -> dict[str, tuple[bytes, ...]]:
    """Parse ``api_key:secret`` items, separated by commas or newlines. All secrets of a repeated key are live.

    A line that starts with # is a comment. Raises ValueError, which gives the number of the invalid item and quotes
    nothing of it.
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
        raise WrongValue("no item: write each as api_key:secret")
    return secrets


def describe_secrets(secrets: Secrets) -> str:
    """Return the number of accounts and secrets, such as ``2 accounts, 3 secrets``."""
    accounts, live = len(secrets), sum(map(len, secrets.values()))
    return f"{accounts} account{'s' * (accounts != 1)}, {live} secret{'s' * (live != 1)}"
