"""The source tree as the tests of the house see it."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
ROOMS = ("schemas", "analytics", "streams", "api", "infra")
GENERATED = frozenset({"schemas/records.py", "infra/config/reference.md", "requirements.lock"})


@cache
def files() -> tuple[Path, ...]:
    """Every file that belongs to the project, relative to the checkout: tracked, or new and not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=True).stdout.decode()
    return tuple(Path(name) for name in sorted(set(found.split("\0"))) if name and (CHECKOUT / name).is_file())


def sources(*rooms: str) -> list[Path]:
    """The Python files of some rooms (all, without an argument) that people write."""
    wanted = rooms or ROOMS
    return [f for f in files() if f.suffix == ".py" and f.parts[0] in wanted and f.as_posix() not in GENERATED]


@cache
def parsed(file: Path) -> ast.Module:
    """A Python file as a tree."""
    return ast.parse((CHECKOUT / file).read_text("utf-8"))


def functions(tree: ast.AST, owner: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function with its qualified name, inner ones included."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield owner + node.name, node
            yield from functions(node, f"{owner}{node.name}.")
        else:
            yield from functions(node, f"{owner}{node.name}." if isinstance(node, ast.ClassDef) else owner)
