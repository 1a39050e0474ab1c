"""The answers for new maintainers, and the docstrings, name modules and symbols that exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "where-is.md").read_text()
ROWS = re.findall(r"^\| `([\w/.-]+)` \| (?:`(\w+)`)? ?\|", PAGE, re.MULTILINE)
REFERENCE = re.compile(r"(?<![\w./])(?:console|ingest|runtime|stream|worker)(?:\.[a-z]\w*)+(?:\.[A-Z]\w*)?")


def definitions(file: Path) -> set[str]:
    """Return the names that a module defines at its top."""
    names = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def test_sixteen_questions_are_answered() -> None:
    """Each question has at least one row."""
    sections = PAGE.split("\n## ")[1:]
    assert len(sections) == 16
    assert [section for section in sections if "| `" not in section] == []


def test_every_row_was_read() -> None:
    """The expression that reads the rows misses none."""
    assert len(ROWS) == len(re.findall(r"^\| `", PAGE, re.MULTILINE))


def test_each_file_exists_and_has_the_symbol() -> None:
    """A renamed file or symbol has to be renamed on the page too."""
    missing = [
        (path, symbol)
        for path, symbol in ROWS
        if not (ROOT / path).exists() or (symbol and symbol not in definitions(ROOT / path))
    ]
    assert missing == []


def docstrings(module: ast.Module) -> Iterator[str]:
    """Yield the docstrings of a module, its classes and functions, and the texts below names."""
    for node in ast.walk(module):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def is_known(reference: str) -> bool:
    """Whether a dotted name is a folder, a module, or a name in the text of the module before its last dot."""
    path = ROOT / reference.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    module, name = path.parent.with_suffix(".py"), path.name
    return module.exists() and re.search(rf"\b{name}\b", module.read_text()) is not None


def test_docstrings_name_modules_that_exist() -> None:
    """A module that is renamed or moved has to be renamed in the docstrings too."""
    unknown = [
        (str(file.relative_to(ROOT)), reference)
        for package in ("console", "ingest", "runtime", "stream", "worker")
        for file in sorted((ROOT / package).rglob("*.py"))
        for text in docstrings(ast.parse(file.read_text()))
        for reference in REFERENCE.findall(text)
        if not is_known(reference)
    ]
    assert unknown == []
