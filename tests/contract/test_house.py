"""The rules of the house, counted: sizes, names, broad handlers, packages, links, and nothing of anybody's machine."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.contract.checkout import CHECKOUT, ROOMS, files, functions, parsed, sources

LONGEST_FUNCTION = 60
USUAL_FUNCTION = 30
LONGEST_FILE = 400
MOST_PARAMETERS = 8
NAMELESS = frozenset({"utils", "util", "helpers", "helper", "common", "misc"})

#: Function with handlers for everything that do not end by raising, how many, and why they must be.
GUARDS = {
    "analytics/archive/writer.py": (1, "the writer's thread: everybody who waits must get an answer"),
    "analytics/suppressions/view.py": (
        1,
        "the local view: rocksdict raises nothing narrower, and the topic has it all",
    ),
    "api/rest/guard.py": (1, "the REST door: a stranger must not read what a bug raises"),
    "api/smtp/server.py": (2, "the SMTP door: a bug ends one conversation or one command, without inner text"),
    "streams/agents/outcomes.py": (1, "the agents: leave before Faust acknowledges what was not done"),
    "streams/agents/suppression.py": (1, "the agents: leave before Faust acknowledges what was not done"),
    "streams/agents/pace.py": (1, "the agents: leave before Faust acknowledges what was not done"),
    "streams/agents/rates.py": (1, "the agents: a sum that could not be said must not be forgotten"),
    "streams/agents/warmup.py": (1, "the agents: a count that could not be said must not be forgotten"),
    "streams/runner/guard.py": (3, "the stages: bury a record with its cause, or carry a fault past the Kafka client"),
    "streams/stages/courier.py": (1, "the couriers: a bug that one mail wakes ends that mail and not the courier"),
}


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring, which is its contract and may be as long as it must."""
    whole = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    told = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return whole - ((first.end_lineno or 0) - first.lineno + 1 if told else 0)


def test_functions_are_short() -> None:
    lengths = {f"{file}: {name}": length(node) for file in sources() for name, node in functions(parsed(file))}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}
    ordered = sorted(lengths.values())
    assert ordered[len(ordered) * 9 // 10] <= USUAL_FUNCTION


def test_files_are_short() -> None:
    lines = {str(file): len((CHECKOUT / file).read_text("utf-8").splitlines()) for file in sources()}
    assert {file: count for file, count in lines.items() if count > LONGEST_FILE} == {}


def test_constructors_take_few_parameters() -> None:
    crowded = {
        f"{file}: {name}": count
        for file in sources()
        for name, node in functions(parsed(file))
        if node.name == "__init__"
        and (count := len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs) - 1)
        > MOST_PARAMETERS
    }
    assert crowded == {}


def test_every_module_says_why_it_exists() -> None:
    silent = [str(file) for file in sources() if ast.get_docstring(parsed(file)) is None]
    assert silent == []


def test_a_rooms_caption_holds_no_code() -> None:
    busy = [str(file) for file in sources() if file.name == "__init__.py" and len(parsed(file).body) > 1]
    assert busy == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [str(file) for file in files() if NAMELESS & {file.stem, *file.parent.parts}] == []


def _is_broad(handler: ast.ExceptHandler) -> bool:
    caught = ast.unparse(handler.type) if handler.type else "BaseException"
    return bool({"Exception", "BaseException"} & set(re.findall(r"\w+", caught)))


def test_whatever_is_raised_is_caught_only_by_the_guards() -> None:
    found: dict[str, int] = {}
    for file in sources():
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.ExceptHandler) and _is_broad(node) and not isinstance(node.body[-1], ast.Raise):
                found[file.as_posix()] = found.get(file.as_posix(), 0) + 1
    assert found == {file: count for file, (count, _) in GUARDS.items()}


def test_nothing_is_suppressed_broadly() -> None:
    calls = [
        f"{file}:{node.lineno}"
        for file in sources()
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("suppress")
        and {"Exception", "BaseException"} & {ast.unparse(argument) for argument in node.args}
    ]
    assert calls == []


def test_the_list_of_packages_is_the_tree() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
    listed = set(project["tool"]["setuptools"]["packages"])
    there = {
        ".".join(("depesche", *file.parent.parts))
        for file in files()
        if file.name == "__init__.py" and file.parts[0] in ROOMS
    }
    assert listed == there


def test_only_the_rooms_stand_at_the_root() -> None:
    allowed = {*ROOMS, "tests", ".ci"}
    assert {file.parts[0] for file in files() if len(file.parts) > 1} == allowed
    known = {
        "pyproject.toml",
        "README.md",
        "Makefile",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "requirements.lock",
    }
    assert {str(file) for file in files() if len(file.parts) == 1 and not file.name.startswith(".")} == known


PAGES = [file for file in files() if file.suffix == ".md"]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    text = (CHECKOUT / page).read_text("utf-8")
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", target)]
    lost = [target for target in targets if not (CHECKOUT / page.parent / target.partition("#")[0]).exists()]
    assert lost == []


def test_paths_that_the_pages_name_are_there() -> None:
    named = re.compile(r"`((?:schemas|analytics|streams|api|infra|tests)/[\w./-]*)`")
    lost = {
        f"{page}: {path}"
        for page in PAGES
        for path in named.findall((CHECKOUT / page).read_text("utf-8"))
        if not (CHECKOUT / path).exists()
    }
    assert lost == set()


#: One letter of each stands in brackets, so that this file does not name them itself.
FOREIGN = {
    "a path of one machine": r"/wor[k]/|/roo[t]/|/hom[e]/[a-z]+/|/User[s]/",
    "a host of a package registry": r"py[p]i\.org|python[h]osted\.org|npm[j]s\.|crate[s]\.io|mave[n]\.(?:org|apache)",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_nothing_names(what: str) -> None:
    pattern = re.compile(FOREIGN[what])
    found = []
    for file in files():
        content = (CHECKOUT / file).read_bytes()
        text = content.decode("utf-8", "replace")
        found += [f"{file}: {match[0]}" for match in pattern.finditer(text)]
        if str(CHECKOUT).encode() in content:
            found.append(f"{file}: the path of this checkout")
    assert found == []
