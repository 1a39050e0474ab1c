"""Plain English: counts un-English constructions in the docs and docstrings, and unclear names in the code.

``python -m tests.project.prose`` prints every file over the limit and the shares of names, and exits 1 if one is over.
With file names as arguments, it prints each mark of these files with its line.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE_GROUPS = {
    "the packages": ("ackstream", "console", "ingest", "runtime", "stream", "worker"),
    "bench": ("bench",),
    "tests": ("tests",),
    "deploy": ("deploy",),
}
"""The shares of names count for each group on its own."""
FOLDERS = (*(name for names in CODE_GROUPS.values() for name in names), "docs")
MARKS_PER_1000_WORDS = 3.0
FUNCTION_SHARE, VARIABLE_SHARE = 0.02, 0.01
FREE_MARKS = 1
"""A short file may hold this many marks: one in 200 words is no dialect."""

MARKS = re.compile(
    r"""
      \b(?:whoever|whatever|whichever|whyever|wherever)\b
    | (?:^|[.;:,(]\s+)(?:what|who)\b(?![^.?!]*\?)           # opens a clause, and the sentence is no question
    | \b(?:of|to|for|that|and|or|by|with|in|from|is|are|was|than|as|on|about|out\ of)\s+what\b
    | \bof\s+which\b
    | \b(?:is|are|was|were)\s+(?:no|none)\b
    | \b(?:is|are|was|were)\s+to\s+be\b
    | \bshall\b
    | \bso\s+(?:many|long|much)\b
    | \b(?:begin|begins|began|begun|beginning)\b
    | \b(?:tell|tells|told)\b
    | \b(?:likewise|meanwhile|anew|indeed|beside)\b
    | \b(?:goes|go|went|going)\s+on\b
    | \b(?:stand|stands|stood|bear|bears|borne)\b
    | ,\ for\s+(?:it|they|he|she|there|nothing|nobody|no|else|then|this|that|one|some|most|these|those)\b
    | \bnobody\s+(?:waits|knows|else)\b
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
CODE = re.compile(r"```.*?```|``[^`]*``|`[^`]*`|https?://\S+|<!--.*?-->", re.DOTALL)
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")

# Words in -ed and -ing that are verbs or nouns in their own right, and so make good names.
VERBS = frozenset(
    {"feed", "need", "embed", "seed", "speed", "proceed", "exceed", "ping", "ring", "string", "thing", "bring", "shed"}
)
PRONOUNS = frozenset(
    """  found one ones own some made given known kept left most others another other same such both none it them those
    these whole said told got taken seen met meant gone done wanted had""".split()  # noqa: SIM905 - a list of 30 strings reads worse
)


@dataclass(frozen=True, slots=True)
class Report:
    """The words and marks of one file."""

    path: Path
    words: int
    marks: tuple[tuple[int, str], ...]

    @property
    def per_1000(self) -> float:
        """Marks per 1,000 words."""
        return 1000 * len(self.marks) / self.words if self.words else 0.0

    @property
    def over(self) -> bool:
        """Whether the file has more marks than the limit allows."""
        return len(self.marks) > FREE_MARKS and self.per_1000 > MARKS_PER_1000_WORDS


def prose_files() -> list[Path]:
    """Return every Markdown and Python file that people read."""
    folders = [ROOT / name for name in FOLDERS]
    files = [
        *ROOT.glob("*.md"),
        *(path for folder in folders for path in (*folder.rglob("*.md"), *folder.rglob("*.py"))),
    ]
    return sorted(path for path in files if "node_modules" not in path.parts and path != Path(__file__).resolve())


def passages(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the first line and the text of each docstring, comment, help text or Markdown page."""
    text = path.read_text()
    if path.suffix == ".md":
        yield 1, text
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and "noqa" not in token.string:
            yield token.start[0], token.string.lstrip("# ")


def inspect(path: Path) -> Report:
    """Count the words and the marks of a file."""
    words = 0
    marks: list[tuple[int, str]] = []
    for first_line, passage in passages(path):
        text = CODE.sub(lambda code: re.sub(r"[^\n]", " ", code.group()), passage)
        words += len(WORD.findall(text))
        marks += [
            (first_line + text.count("\n", 0, mark.start()), " ".join(mark.group().split()))
            for mark in MARKS.finditer(text)
            if not mark.group().isupper() and not mark.group().endswith("None")  # SQL and Python words
        ]
    return Report(path, words, tuple(marks))


def _is_participle(name: str) -> bool:
    last = name.strip("_").partition("_")[0]
    return last not in VERBS and re.fullmatch(r"[a-z]{2,}(?:ed|ing)", last) is not None


def name_shares(packages: Iterable[str]) -> tuple[float, float]:
    """Return the share of functions named by a participle, and of variables that are pronouns or participles."""
    functions: list[str] = []
    variables: list[str] = []
    for package in packages:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    is_property = any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
                    functions += [] if is_property or node.name.startswith("__") else [node.name]
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    variables.append(node.id)
                elif isinstance(node, ast.arg):
                    variables.append(node.arg)
    return (
        sum(map(_is_participle, functions)) / len(functions),
        sum(name.strip("_") in PRONOUNS for name in variables) / len(variables),
    )


def main(names: list[str]) -> int:
    """Print what is over the limit; return the exit code."""
    if names:
        for report in map(inspect, map(Path, names)):
            for line, mark in sorted(report.marks):
                print(f"{report.path}:{line}: {mark}")
        return 0
    reports = [inspect(path) for path in prose_files()]
    for report in sorted((report for report in reports if report.over), key=lambda report: -report.per_1000):
        print(f"{report.path.relative_to(ROOT)}: {len(report.marks)} marks in {report.words} words")
    words, marks = sum(report.words for report in reports), sum(len(report.marks) for report in reports)
    print(
        f"{marks} marks in {words} words ({1000 * marks / words:.1f} per 1,000); limit {MARKS_PER_1000_WORDS} per file"
    )
    shares = {group: name_shares(packages) for group, packages in CODE_GROUPS.items()}
    for group, (functions, variables) in shares.items():
        print(
            f"{group}: {functions:.1%} of functions are named by a participle (limit 2 %), "
            f"{variables:.1%} of variables are pronouns or participles (limit 1 %)"
        )
    is_over = any(
        functions >= FUNCTION_SHARE or variables >= VARIABLE_SHARE for functions, variables in shares.values()
    )
    return int(is_over or any(report.over for report in reports))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
