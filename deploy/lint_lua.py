"""Compile each Lua script of the packages with Lua 5.1, the language of Redis: ``python deploy/lint_lua.py``.

Exits with 1 and prints each syntax error with file and line, each missing include, and each script whose head does not
describe its keys.
"""

import sys
from pathlib import Path

from lupa import lua51

from stream.redis.scripts import read_script

ROOT = Path(__file__).parents[1]
PACKAGES = ("console", "ingest", "stream", "worker")


def main() -> int:
    """Check all scripts; return the exit code."""
    load = lua51.LuaRuntime().eval("function(text, name) local _, err = loadstring(text, '=' .. name) return err end")
    errors: list[str] = []
    files = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.lua"))
    for file in files:
        name = str(file.relative_to(ROOT))
        try:
            text = read_script(str(file), file.name)
        except StopIteration:
            errors.append(f"{name}: includes a file that does not exist")
            continue
        head, _, body = text.partition("\n")
        if head.startswith("#!lua") and "-- KEYS" not in body:
            errors.append(f"{name}: the comment at the top does not describe KEYS")
        error = load(text.removeprefix(head) if head.startswith("#!lua") else text, name)
        errors += [error] if error else []
    print("\n".join(errors) or f"{len(files)} Lua files compile")
    return int(bool(errors))


if __name__ == "__main__":
    sys.exit(main())
