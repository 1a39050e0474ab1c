"""Making text from outside fit to be shown: a client must not be able to steer a terminal or to forge a line."""


def escape_unprintable(text: str, *, keep: str = "") -> str:
    """Escape what a terminal would act on, or hide: control characters, turned writing, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else one.encode("unicode_escape").decode() for one in text)
