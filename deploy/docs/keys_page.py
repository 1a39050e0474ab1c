"""The page of everything that is kept in Redis: keys, and the fields of an entry."""

import inspect
import re
from collections.abc import Iterator

import stream.entry
from deploy.docs.markdown import code, page, sentence, table
from stream.keys import Shard

INTRODUCTION = """
All keys start with the stream's name and the shard in braces, by default `vonage:status:{0}`. The braces are a hash
tag, so all keys of a shard are on one node. `<group>` is the name of a consumer group, `<replay>` the id of a replay.
Only Ackstream writes these keys; other programs may read them.
"""


def render() -> str:
    """Return the page."""
    return page(
        "Redis keys",
        INTRODUCTION,
        table(("key", "type and content"), sorted(_keys())),
        "## Fields of an entry\n\n" + (stream.entry.__doc__ or "").partition("Layout")[0].partition("\n")[2],
        table(("field", "present", "value"), _fields(stream.entry.__doc__ or "")),
    )


def _keys() -> Iterator[tuple[str, str]]:
    shard = Shard()
    for name, member in vars(Shard).items():
        if isinstance(member, property):
            key = getattr(shard, name)
        elif (
            inspect.isfunction(member)
            and not name.startswith("_")
            and inspect.signature(member).return_annotation is str
        ):
            parameters = list(inspect.signature(member).parameters)[1:]
            key = getattr(shard, name)(*(f"<{parameter}>" for parameter in parameters))
        else:
            continue
        yield code(key), sentence(member.__doc__ or "")


def _fields(documentation: str) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of the table in the module's docstring."""
    _, rows, *_ = re.split(r"^=+ +=+ +=+$\n", documentation, flags=re.MULTILINE)[1:]
    for line in rows.splitlines():
        field, present, value = re.split(r" {2,}", line, maxsplit=2)
        yield code(field), present, sentence(value)
