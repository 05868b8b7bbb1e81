"""Shaping files: what they say, what is wrong with them and where, and which of two counts."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depesche.schemas.errors import SetupError
from depesche.schemas.settings import DeliverSettings
from depesche.schemas.topics import RETRIES
from depesche.streams.mail.route import default_providers
from depesche.streams.mail.shaping.book import ShapingBook, shipped, shipped_text
from depesche.streams.mail.shaping.reading import read

SETTINGS = DeliverSettings.model_validate({"connections_per_route": 7})

GOOD = """
[default]
rate = "unlimited"
messages_per_connection = 33

[provider.gmail]
rate = "5/s"
ladder = ["5m", "4h"]
tls = "must"
lifetime = "36h"

[provider."hoster.example"]
connections = 2
"""


def test_the_operators_file_counts_before_the_shipped_one_key_by_key() -> None:
    book = ShapingBook(SETTINGS, read(GOOD, "own.toml"), shipped())
    gmail = book.of("gmail")
    assert (gmail.per_minute, gmail.ladder, gmail.tls, gmail.lifetime) == (300, ("5m", "4h"), "must", 36 * 3600)
    assert gmail.connections == shipped()["gmail"].values["connections"][0]
    assert gmail.answers == shipped()["gmail"].answers
    # A shipped provider's block is closer than the operator's default, and that closer than the settings.
    assert gmail.messages_per_connection == shipped()["gmail"].values["messages_per_connection"][0]
    other = book.of("hoster.example")
    assert (other.connections, other.messages_per_connection, other.per_minute) == (2, 33, None)
    assert book.of("nobody.example").connections == 7


def test_each_value_names_its_origin() -> None:
    origins = ShapingBook(SETTINGS, read(GOOD, "own.toml"), shipped()).of("gmail").origins
    assert origins["rate"] == "own.toml:7 [provider.gmail]"
    assert origins["connections"].startswith("shipped:")
    assert ShapingBook(SETTINGS).of("x.example").origins["connections"] == "setting deliver.connections_per_route"


@pytest.mark.parametrize(
    ("text", "line", "what", "fix"),
    [
        ("[default]\nrate = ", 2, "not TOML", "that line"),
        ("[defaults]\nrate = '1/s'", 1, "unknown key defaults", "default?"),
        ("\n[default]\n\nconections = 3", 4, "unknown key conections", "connections?"),
        ("[provider.gmial]\nrate = '1/s'", 1, "no provider gmial", "gmail?"),
        ("[provider.Example]\nrate = '1/s'", 1, "no provider Example", ""),
        ("[default]\nrate = '300 a minute'", 2, "rate: not a rate", ""),
        ("[default]\nrate = 300", 2, "rate: not a rate", ""),
        ("[default]\nconnections = 0", 2, "connections: not a whole number", ""),
        ("[default]\nconnections = true", 2, "connections: not a whole number", ""),
        ("[default]\nladder = ['1m', '2m']", 2, "ladder: not a list of rungs", ""),
        ("[default]\ntls = 'never'", 2, "tls: 'never' is none of may, must", ""),
        ("[default]\nlifetime = '0h'", 2, "lifetime: not a time", ""),
        ("[[default.answer]]\nany = 'x'\naction = 'defer'", 1, "without a name", "Give it one"),
        ("[[default.answer]]\nname = 'x'\naction = 'defer'", 2, "fits every answer", ""),
        ("[[default.answer]]\nname = 'x'\nany = '(?=x)'", 3, "any: not a pattern", ""),
        ("[[default.answer]]\nname = 'a'\ncode = 1\n", 3, "code: not a reply code", ""),
        ("[[default.answer]]\nname = 'a'\ncode = 421\n[[default.answer]]\nname = 'b'\nacton = 'x'", 6, "acton", "action?"),
        ("[[default.answer]]\nname = 'a'\ncode = 421\naction = ['defer', 'bounce']", 4, "exclude each other", ""),
        ("[[default.answer]]\nname = 'a'\ncode = 421\nclass = 'busy'", 4, "class: 'busy' is none of", ""),
        ("[[default.suspend]]\nclasses = 'reputation'\nafter = 3", 1, "without within", ""),
        ("provider = 3", 1, "provider is no table", ""),
        ("[default]\nanswer = 3", 2, "answer is no list of tables", "[[default.answer]]"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line_and_its_fix(text: str, line: int, what: str, fix: str) -> None:
    with pytest.raises(SetupError) as caught:
        read(text, "own.toml")
    assert what in str(caught.value)
    assert str(caught.value).startswith("own.toml")
    assert f"line {line}" in str(caught.value)
    assert fix in caught.value.fix


@settings(deadline=None)
@given(st.text(max_size=200))
def test_whatever_a_file_holds_it_is_read_or_refused_by_name(text: str) -> None:
    try:
        blocks = read(text, "own.toml")
    except SetupError as fault:
        assert str(fault).startswith("own.toml")
    else:
        assert blocks == {} or tomllib.loads(text)


def test_the_shipped_file_shapes_those_who_matter() -> None:
    wanted = {"gmail", "microsoft", "microsoft365", "yahoo", "apple", "gmx", "web.de", "t-online", "freenet", "ionos"}
    wanted |= {"strato", "proton", "mail.ru"}
    assert wanted <= set(ShapingBook(SETTINGS).providers) <= default_providers().names
    for name in wanted:
        shape = ShapingBook(SETTINGS).of(name)
        assert shape.per_minute
        assert set(shape.ladder) <= set(RETRIES)
    names = [rule.name for block in shipped().values() for rule in block.answers]
    assert len(names) == len(set(names))
    assert "[default]" in shipped_text()
