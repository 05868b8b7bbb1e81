"""The language of search: what is meant is what is read, and what cannot be read is told with its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.analytics.queries import values
from depesche.analytics.queries.grammar import (
    FIELDS,
    And,
    Expression,
    Not,
    Or,
    Query,
    QueryError,
    Term,
    guess,
    parse,
)

NOW = 1_795_400_000_000
HOUR = 3_600_000
JOB = "01a20686-fa0d-73fe-9b63-01a4f89b4991"


def read(text: str) -> Expression | None:
    return parse(text, NOW).expression


def test_conditions_side_by_side_must_all_hold() -> None:
    assert read("to:ada@example.org status:bounced") == And((Term("to", "ada@example.org"), Term("status", "bounced")))
    assert read("to:ada@example.org and status:bounced") == read("to:ada@example.org status:bounced")


def test_or_binds_less_than_side_by_side_and_brackets_group() -> None:
    a, b, c = Term("text", "a"), Term("text", "b"), Term("text", "c")
    assert read("a b or c") == Or((And((a, b)), c))
    assert read("a (b or c)") == And((a, Or((b, c))))
    assert read("(a or b) or c") == Or((a, b, c))
    assert read("a (b c)") == And((a, b, c))


def test_a_sign_or_not_turns_around_and_twice_is_nothing() -> None:
    assert read("-status:bounced") == read("not status:bounced") == Not(Term("status", "bounced"))
    assert read("--a") == read("a")
    assert read("-(a b)") == Not(And((Term("text", "a"), Term("text", "b"))))


def test_quotes_hold_words_together_and_take_every_character() -> None:
    assert read('subject:"test mail"') == Term("subject", "test mail")
    assert read(r'"say \"hi\" \\ (or) a:b"') == Term("text", r'say "hi" \ (or) a:b')
    assert read('"or"') == Term("text", "or")


@pytest.mark.parametrize(
    ("word", "field"),
    [
        (JOB, "id"),
        (f"{JOB}.17", "id"),
        ("<abc@shop.example>", "id"),
        ("ada@example.org", "address"),
        ("4711", "text"),
        (JOB.replace("-7", "-4"), "text"),
        ("@example", "text"),
    ],
)
def test_a_bare_word_is_guessed(word: str, field: str) -> None:
    assert guess(word) == field
    assert read(word) == Term(field, word)


def test_a_period_is_not_part_of_the_expression() -> None:
    assert parse("since:1h a until:30m", NOW) == Query(Term("text", "a"), NOW - HOUR, NOW - HOUR // 2)
    assert parse("since:2h since:1h", NOW).since == NOW - HOUR
    day = parse("between:2026-11-20..2026-11-22", NOW)
    assert (day.since, day.until) == (1_795_132_800_000, 1_795_392_000_000)
    assert parse("until:2026-11-22T10:00+02:00", NOW).until == 1_795_334_400_000
    assert parse("", NOW) == parse("   ", NOW) == Query()


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("foo:bar", 1, "there is no field 'foo'; there are to, from"),
        ("a status:lost", 3, "the status 'lost' does not exist; there are accepted"),
        ("to:", 1, "a value is missing"),
        ('to:""', 1, "a value is missing"),
        ("a or", 5, "a condition is missing beside `or`"),
        ("or a", 5, "a condition is missing beside `or`"),
        ("a -", 4, "a condition is missing"),
        ("a (b", 3, "not closed"),
        ("a) b", 2, "closes nothing"),
        ("a ()", 3, "nothing in this bracket"),
        ('a "b', 3, "quotation is not closed"),
        ("size:big", 1, "a size is >200k"),
        ("code:700", 1, "a code is 550"),
        ("since:soon", 1, "a time is 1h"),
        ("since:1h..2h", 1, "a period is between:"),
        ("between:1h", 1, "a period is between:"),
        ("interface:fax", 1, "the interface 'fax'"),
        ("a or since:1h", 1, "cannot stand in an alternative"),
        ("-since:1h", 1, "cannot be turned around"),
        ("a (since:1h b)", 3, "cannot stand in brackets"),
        ("since:1h until:2h", 1, "ends before it begins"),
        ("(" * 30 + "a" + ")" * 30, 22, "nested too deeply"),
        ("-" * 30 + "a", 21, "too many signs"),
        ("a " * 60, 101, "at most 50 conditions"),
        ("a" * 3000, 2001, "at most 2000 characters"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(text: str, at: int, says: str) -> None:
    with pytest.raises(QueryError, match=says) as told:
        parse(text, NOW)
    assert told.value.at == at
    assert f"(character {at})" in told.value.public
    assert told.value.status == 422


words = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
free = sorted(set(FIELDS) - {"status", "interface", "size", "code", "since", "until", "between"})
leaves = st.builds(Term, st.sampled_from(free), words) | st.sampled_from(
    [Term("status", "bounced"), Term("status", "pending"), Term("size", ">200k"), Term("code", "5xx,4.2.2")]
)


def _joined(kind: type[And] | type[Or]) -> object:
    def build(parts: list[Expression]) -> Expression:
        flat = [one for part in parts for one in (part.parts if isinstance(part, kind) else (part,))]
        return kind(tuple(flat))

    return build


def _turned(part: Expression) -> Expression:
    return part.part if isinstance(part, Not) else Not(part)


expressions = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, min_size=2, max_size=3).map(_joined(And))  # type: ignore[arg-type]
        | st.lists(inner, min_size=2, max_size=3).map(_joined(Or))  # type: ignore[arg-type]
        | inner.map(_turned)
    ),
    max_leaves=10,
)


@given(expressions)
def test_an_expression_written_out_is_read_as_the_same(expression: Expression) -> None:
    assert read(str(expression)) == expression


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused_with_a_place_in_it(text: str) -> None:
    try:
        found = parse(text, NOW)
    except QueryError as refused:
        assert 1 <= refused.at <= len(text) + 1
    else:
        assert found.expression is None or read(str(found.expression)) == found.expression


@given(st.text(alphabet='ab:-()"\\ or<>@.', max_size=30))
def test_texts_full_of_signs_are_read_or_refused_too(text: str) -> None:
    try:
        found = read(text)
    except QueryError:
        return
    assert found is None or read(str(found)) == found


@given(st.integers(0, 999_999_998), st.integers(0, 999_999_998))
def test_a_size_means_the_same_in_every_spelling(a: int, b: int) -> None:
    assert values.size(f"{a}..{b}") == values.Range(min(a, values.LARGEST), min(b, values.LARGEST))
    assert values.size(f">={a}").least == values.size(f">{a}").least - 1
    assert values.size("2k") == values.Range(2048, 2048)
    assert values.size("1M") == values.Range(1 << 20, 1 << 20)
