"""The pages tell the truth: what they name is there, and what is there is named."""

import re

import pytest

from depesche.infra.load import OTHER_VARIABLES, all_settings
from depesche.infra.reference import all_commands, all_errors, page
from depesche.schemas import metrics
from depesche.schemas.crashpoints import POINTS
from depesche.schemas.topics import ALL
from depesche.schemas.vocabulary import MEANING
from tests.contract.checkout import CHECKOUT, GENERATED, ROOMS, files

WORDS = {words for words, _ in all_commands()}
NOUNS = {words[:count] for words in WORDS for count in range(1, len(words) + 1)}
NAMED = {
    "commands": [f"`depesche {' '.join(words)}" for words in sorted(WORDS)],
    "settings": [f"`{setting.variable}`" for setting in all_settings()],
    "other variables": [f"`{name}`" for name in OTHER_VARIABLES],
    "topics": [f"`{topic.name}`" for topic in ALL],
    "events": [f"`{kind.value}`" for kind in MEANING],
    "errors": [f"`{kind.code}`" for kind in all_errors()],
    "metrics": [f"`{name}`" for table in (metrics.COUNTERS, metrics.HISTOGRAMS, metrics.GAUGES) for name in table],
    "crash points": [f"| {name} |" for name in POINTS],
}


@pytest.mark.parametrize("kind", NAMED)
def test_the_reference_page_names_all(kind: str) -> None:
    text = page()
    assert NAMED[kind]
    assert [name for name in NAMED[kind] if name not in text] == []


@pytest.mark.parametrize("kind", ["settings", "topics", "events", "errors", "metrics", "crash points"])
def test_each_has_a_meaning(kind: str) -> None:
    rows = [
        line for line in page().splitlines() if any(line.startswith(f"| {name.strip('| ')}") for name in NAMED[kind])
    ]
    assert len(rows) >= len(NAMED[kind])
    assert [row for row in rows if len(row.rstrip(" |").rpartition("|")[2].strip()) < 5] == []


def _commands_in(text: str) -> set[tuple[str, ...]]:
    """The words of every ``depesche ...`` in backticks or at the beginning of a line of code."""
    quoted = re.findall(r"`(?:\S+/)?depesche ([a-z][^`\n]*)`", text)
    pasted = re.findall(r"^ {4}(?:\S+/)?depesche ([a-z].*)$", text, re.MULTILINE)
    return {tuple(re.match(r"[a-z ]*", line)[0].split()) for line in (*quoted, *pasted) if line}  # type: ignore[index]


def _is_known(words: tuple[str, ...]) -> bool:
    # What follows the words of a command are its arguments, which may be words as well.
    return any(words[:count] in NOUNS for count in range(1, len(words) + 1))


def test_commands_that_are_named_exist() -> None:
    unknown = {
        f"{file}: depesche {' '.join(words)}"
        for file in files()
        if file.suffix in (".md", ".py", ".sh", ".html")
        for words in _commands_in((CHECKOUT / file).read_text("utf-8"))
        if words and not _is_known(words)
    }
    assert unknown == set()


def test_make_verbs_that_are_named_exist() -> None:
    verbs = set(re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    named = {
        verb
        for file in files()
        if file.suffix in (".md", ".py", ".sh")
        for verb in re.findall(
            r"(?:`|^ {4})make ([a-z]+)" if file.suffix == ".md" else r"`make ([a-z]+)",
            (CHECKOUT / file).read_text("utf-8"),
            re.MULTILINE,
        )
    }
    assert named - verbs == set()
    assert {"run", "test", "bench"} <= named


def test_variables_that_are_named_exist() -> None:
    known = {setting.variable for setting in all_settings()} | set(OTHER_VARIABLES)
    known |= {f"{setting.variable}_FILE" for setting in all_settings() if setting.secret}
    named = {
        name
        for file in files()
        if file.suffix in (".md", ".sh", "") and file.parts[0] != "tests" and file.as_posix() not in GENERATED
        for name in re.findall(r"DEPESCHE_[A-Z_]*[A-Z]", (CHECKOUT / file).read_text("utf-8"))
    }
    assert named - known == set()


def test_every_room_is_in_the_readme() -> None:
    text = (CHECKOUT / "README.md").read_text("utf-8")
    assert [room for room in ROOMS if f"`{room}/`" not in text] == []


def test_the_readme_says_what_ci_runs() -> None:
    script = (CHECKOUT / ".ci" / "run").read_text("utf-8")
    assert "make test" in script
    assert "    make test" in (CHECKOUT / "README.md").read_text("utf-8")
