"""Random changes to bytes. Pure: the same chance gives the same bytes."""

import random
from collections.abc import Callable, Sequence

TOKENS = (
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"\xff", b"\xe2\x80\xae", b"\x1b[31m"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Content-Length: 5\r\n", b"Host: y\r\n"),
    *(b"Content-Length: 99999999\r\n", b"Content-Encoding: gzip\r\n", b"Connection: close\r\n", b"Expect: \xff\r\n"),
    *(b"Expect: 100-continue\r\n", b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"A: " + b"x" * 9000 + b"\r\n"),
    *(b"0\r\n\r\n", b"5\r\nhello\r\n", b"ffffffffffffffff\r\n", b"5;a=b\r\n", b"HTTP/1.0", b"HTTP/2.0", b"CONNECT "),
    *(
        b"%00",
        b"%ff",
        b"%",
        b"?",
        b"#",
        b"//",
        b"http://x:99999/",
        b"[::1",
        b"0" * 5000,
        b"Authorization: Bearer x\r\n",
    ),
)

Mutation = Callable[[random.Random, bytes], bytes]


def _flip(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def _overwrite(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + rng.randbytes(1) + data[place + 1 :]


def _cut(rng: random.Random, data: bytes) -> bytes:
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + data[min(end, start + 40) :]


def _truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[start:end] * rng.choice((1, 1, 2, 50)) + data[end:]


def _insert(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(TOKENS) + data[place:]


def _insert_line(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    lines.insert(rng.randrange(1, len(lines) + 1), rng.choice(TOKENS).strip(b"\r\n"))
    return b"\r\n".join(lines)


def _shuffle(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    first, rest = lines[:1], lines[1:]
    rng.shuffle(rest)
    return b"\r\n".join(first + rest)


def _swap_case(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + data[place : place + 20].swapcase() + data[place + 20 :]


_MUTATIONS: Sequence[Mutation] = (
    *(_flip, _flip, _overwrite, _cut, _truncate, _repeat, _insert, _insert, _insert_line, _insert_line),
    *(_shuffle, _swap_case),
)


def mutate(rng: random.Random, data: bytes, maximum: int = 4) -> bytes:
    """Return the bytes after one to ``maximum`` changes."""
    for _ in range(rng.randint(1, maximum)):
        if data:
            data = rng.choice(_MUTATIONS)(rng, data)
    return data


def splice(rng: random.Random, first: bytes, second: bytes) -> bytes:
    """Return the start of one payload with the end of the other."""
    return first[: rng.randrange(len(first) + 1)] + second[rng.randrange(len(second) + 1) :]
