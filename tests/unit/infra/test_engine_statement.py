"""A statement is read by ClickHouse's own lexical rules, and what would harm the engine never passes the guard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.infra.local.engine_errors import EngineError
from depesche.infra.local.engine_guard import CONNECTORS, guard
from depesche.infra.local.engine_statement import MAX_STATEMENT_BYTES, parse


@pytest.mark.parametrize(
    ("source", "text", "format_", "data"),
    [
        (b"INSERT INTO t (`a`, b) FORMAT Native\n\x00\xff;'", b"INSERT INTO t (`a`, b)", "Native", b"\x00\xff;'"),
        (b"insert into t format TSV 1\t2", b"insert into t", "TSV", b"1\t2"),
        (b"INSERT INTO t FORMAT CSV \r\n\n1", b"INSERT INTO t", "CSV", b"\n1"),
        (b"INSERT INTO t VALUES (1, ';')", b"INSERT INTO t", "Values", b" (1, ';')"),
        (b"INSERT INTO t FORMAT Values (1)", b"INSERT INTO t", "Values", b"(1)"),
        (b"INSERT INTO t SETTINGS a = 'x' FORMAT TSV\n", b"INSERT INTO t SETTINGS a = 'x'", "TSV", b""),
        (b"INSERT INTO `values` (format) VALUES (1)", b"INSERT INTO `values` (format)", "Values", b" (1)"),
        (b"INSERT INTO format FORMAT TSV\n1", b"INSERT INTO format", "TSV", b"1"),
        (b"-- VALUES\nINSERT INTO t /* FORMAT x */ FORMAT TSV\n1", b"-- VALUES\nINSERT INTO t", "TSV", b"1"),
        (b"INSERT INTO TABLE db.t (a) FORMAT `TSV`\n1", b"INSERT INTO TABLE db.t (a)", "TSV", b"1"),
    ],
)
def test_the_data_of_an_insert_begins_where_clickhouse_says(
    source: bytes, text: bytes, format_: str, data: bytes
) -> None:
    statement = parse(source)
    assert statement.data is not None
    assert (statement.text, statement.format, bytes(statement.data)) == (text, format_, data)


@given(st.binary(max_size=200))
def test_data_is_never_read_as_sql(data: bytes) -> None:
    statement = parse(b"INSERT INTO t FORMAT Native\n" + data)
    assert statement.data is not None
    assert bytes(statement.data) == data
    guard(statement)


@pytest.mark.parametrize(
    ("source", "verb", "format_"),
    [
        (b"SELECT 1", "SELECT", None),
        (b" (select 1) format JSON ;; ", "SELECT", "JSON"),
        (b"SELECT 'FORMAT JSON' FORMAT TSV SETTINGS max_threads = 1", "SELECT", "TSV"),
        (b"SELECT format FROM t", "SELECT", None),
        (b"SELECT (SELECT 1 FORMAT JSON)", "SELECT", None),
        (b"INSERT INTO t SELECT 1", "INSERT", None),
        (b"/* a /* b */ c */ SHOW TABLES # done", "SHOW", None),
        (b"WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "WITH", None),
    ],
)
def test_verb_and_format_are_found(source: bytes, verb: str, format_: str | None) -> None:
    statement = parse(source)
    assert (statement.verb, statement.format, statement.data) == (verb, format_, None)


@pytest.mark.parametrize(
    "source", [b"SELECT ';' -- ;\n", b"SELECT `;` /* ; */ ;", b'SELECT ";"; ; ', b"SELECT $a$;$a$"]
)
def test_a_semicolon_ends_a_statement_only_outside_quotes_and_comments(source: bytes) -> None:
    assert parse(source).verb == "SELECT"


@pytest.mark.parametrize("source", [b"SELECT 1; SELECT 2", b"", b" ; ", b"-- nothing", b"/* open"])
def test_none_or_several_statements_are_refused(source: bytes) -> None:
    with pytest.raises(EngineError) as caught:
        parse(source)
    assert (caught.value.code, caught.value.status) == (62, 400)


def test_an_endless_statement_is_refused() -> None:
    with pytest.raises(EngineError) as caught:
        parse(b"SELECT 1" + b" " * MAX_STATEMENT_BYTES + b", 2")
    assert caught.value.status == 413


def _case(word: str) -> st.SearchStrategy[str]:
    return st.lists(st.booleans(), min_size=len(word), max_size=len(word)).map(
        lambda upper: "".join(c.upper() if u else c.lower() for c, u in zip(word, upper, strict=True))
    )


_BLANK = st.sampled_from([" ", "\n", "\t", "/**/", "/* x /* y */ */", "-- x\n", "// x\n", "# x\n", " ", "　"])
_GAP = st.lists(_BLANK, min_size=1, max_size=3).map("".join)
_QUOTE = st.sampled_from(["{}", "`{}`", '"{}"', "“{}”"])
_HEAD = st.sampled_from(
    [
        "CREATE TABLE t (a Int32) ",
        "CREATE OR REPLACE TABLE t (a Int32) ",
        "ATTACH TABLE t UUID '00000000-0000-0000-0000-000000000001' (a Int32) ",
        "CREATE MATERIALIZED VIEW m ",
        "CREATE TABLE t (s String DEFAULT 'x''\\' ENGINE = Memory') ",
        "EXPLAIN CREATE TABLE t (a Int32) ",
    ]
)


@given(
    head=_HEAD,
    engine=_case("engine"),
    gap=_GAP,
    sign=st.sampled_from(["=", ""]),
    after=_GAP,
    quote=_QUOTE,
    name=st.sampled_from(sorted(CONNECTORS)).flatmap(_case),
    tail=st.sampled_from(["", "()", "('a')", " SETTINGS kafka_format = 'JSON'", " AS SELECT 1"]),
)
def test_no_spelling_of_a_connector_passes(
    head: str, engine: str, gap: str, sign: str, after: str, quote: str, name: str, tail: str
) -> None:
    sql = f"{head}{engine}{gap}{sign}{after}{quote.format(name)}{tail}"
    with pytest.raises(EngineError, match="refused by the embedded engine"):
        guard(parse(sql.encode()))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM file('/etc/passwd')",
        "SELECT * FROM `file`('/etc/passwd')",
        "SELECT file('/etc/passwd')",
        "SELECT * FROM t, url ('http://x')",
        "INSERT INTO FUNCTION file('x') SELECT 1",
        "INSERT INTO TABLE FUNCTION remote('x', t) VALUES (1)",
        "CREATE TABLE t AS s3('x')",
        "CREATE DICTIONARY d (a Int32) PRIMARY KEY a SOURCE(EXECUTABLE(command 'x')) LAYOUT(FLAT())",
        "CREATE TABLE t (a Int32) ENGINE = URL('http://x')",
        "CREATE DATABASE d ENGINE = MySQL('h', 'd', 'u', 'p')",
        "SELECT 1 INTO OUTFILE 'x'",
        "INSERT INTO t FROM INFILE 'x' FORMAT CSV",
        "SYSTEM SHUTDOWN",
        "SYSTEM KILL",
    ],
)
def test_what_reaches_out_of_the_directory_is_refused(sql: str) -> None:
    with pytest.raises(EngineError) as caught:
        guard(parse(sql.encode()))
    assert (caught.value.code, caught.value.name) == (344, "SUPPORT_IS_DISABLED")


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE kafka (url String, file String, engine String) ENGINE = MergeTree ORDER BY url",
        "CREATE TABLE IF NOT EXISTS url (a Int32) ENGINE = ReplacingMergeTree(a) ORDER BY a",
        "INSERT INTO file (a) VALUES (1)",
        "INSERT INTO db.url (a) SELECT 1",
        "SELECT url, file FROM t WHERE engine = 'Kafka' AND kafka_offset > 1",
        "SELECT 'ENGINE = Kafka' -- ENGINE = Kafka",
        "SELECT engine, count() FROM system.tables GROUP BY engine",
        "SYSTEM STOP MERGES",
        "CREATE DICTIONARY d (a Int32) PRIMARY KEY a SOURCE(CLICKHOUSE(TABLE 't')) LAYOUT(FLAT())",
    ],
)
def test_harmless_names_are_left_alone(sql: str) -> None:
    guard(parse(sql.encode()))


@pytest.mark.parametrize(
    ("text", "code", "name", "status"),
    [
        ("Code: 60. DB::Exception: no. (UNKNOWN_TABLE)", 60, "UNKNOWN_TABLE", 404),
        ("Streaming insert failed: Code: 27. DB::Exception: x (CANNOT_PARSE_INPUT_ASSERTION_FAILED)", 27, None, 400),
        ("Code: 159. DB::Exception: late. (TIMEOUT_EXCEEDED) (version 26.9.2.1)", 159, "TIMEOUT_EXCEEDED", 408),
        ("Code: 999. DB::Exception: something else", 999, "UNKNOWN_EXCEPTION", 500),
        ("no number at all", 1001, "STD_EXCEPTION", 500),
    ],
)
def test_an_error_of_the_engine_keeps_its_number_and_text(text: str, code: int, name: str | None, status: int) -> None:
    error = EngineError.from_engine(RuntimeError(text))
    assert (error.code, error.status) == (code, status)
    assert name is None or error.name == name
    assert str(error) in (text, text[text.find("Code:") :], f"Code: 1001. DB::Exception: {text} (STD_EXCEPTION)")
