"""Random secrets that the console hands out once, and the digests of them that it keeps."""

import hashlib
import re
import secrets

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
NAME_RULE = "1 to 64 letters, digits and . _ @ + -, with a letter or a digit first"


def make_secret(prefix: str = "") -> str:
    """Return 32 random bytes as text for a URL, a cookie or a header."""
    return prefix + secrets.token_urlsafe(32)


def digest(secret: str) -> bytes:
    """Return the SHA-256 of a secret. The secret has 256 random bits, so nobody can find it from the digest."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def is_name(name: str) -> bool:
    """Whether a user or token may have this name, by NAME_RULE."""
    return _NAME.fullmatch(name) is not None
