"""Reads as much of an SQL statement as an HTTP server in front of ClickHouse must know.

Which verb is it, in which format does the answer go out, where does the data of an INSERT begin, and is it one statement
only? The lexical rules are ClickHouse's: nested comments, quotes with backslash or doubled quote, typographic quotes,
heredocs, comments that begin with `--`, `//` or `#`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from depesche.infra.local.engine_errors import EngineError

MAX_STATEMENT_BYTES = 4 * 1024 * 1024
"""Longest statement accepted, without the data of an INSERT."""

Kind = Literal["word", "quoted", "string", "symbol"]

_TOKEN = re.compile(
    rb"""
      (?P<space>[ \t\r\n\f\v]+ | \xe2\x80[\x80-\x8d\xaf] | \xe3\x80\x80 | \xc2\xa0 | \xef\xbb\xbf)
    | (?P<comment>(?:--|//|\#[ !])[^\n]*)
    | (?P<nested>/\*)
    | (?P<heredoc>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    | (?P<string>'(?:[^'\\]++|\\.|'')*+' | \xe2\x80\x98.*?\xe2\x80\x99)
    | (?P<quoted>`(?:[^`\\]++|\\.|``)*+` | "(?:[^"\\]++|\\.|"")*+" | \xe2\x80\x9c.*?\xe2\x80\x9d)
    | (?P<word>[A-Za-z_][A-Za-z0-9_$]*)
    | (?P<number>[0-9][0-9A-Za-z_.]*)
    | (?P<symbol>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_NESTED = re.compile(rb"/\*|\*/")
_OPENING, _CLOSING = ("(", "[", "{"), (")", "]", "}")
_INSERT_TAKES = ("VALUES", "FORMAT", "SELECT", "WITH", "FROM", "WATCH", "EXPLAIN")


@dataclass(frozen=True)
class Token:
    """One lexical unit: `text` is a word, a quoted identifier without its quotes, a symbol, or empty for a literal."""

    kind: Kind
    text: str
    start: int
    end: int
    depth: int

    def says(self, *words: str) -> bool:
        """Whether this is one of these keywords (upper case) outside all brackets."""
        return self.kind == "word" and self.depth == 0 and self.text.upper() in words


@dataclass(frozen=True)
class Statement:
    """One statement.

    `text`: what the engine is given, in bytes. `verb`: its first keyword in capitals. `format`: the format that it names
    for its output or its data, or None. `data`: for an INSERT that brings rows with it, these rows; otherwise None.
    `tokens`: what `text` consists of.
    """

    text: bytes
    verb: str
    format: str | None
    data: memoryview | None
    tokens: tuple[Token, ...]


def parse(source: bytes) -> Statement:
    """Read one statement and the data after it; raises EngineError for none, several, or one that is too long."""
    tokens: list[Token] = []
    for token in _tokens(source):
        if token.start > MAX_STATEMENT_BYTES:
            raise EngineError(307, "QUERY_IS_TOO_LARGE", f"The statement is longer than {MAX_STATEMENT_BYTES} bytes.")
        tokens.append(token)
        if tokens[0].says("INSERT") and _brings_data(tokens):
            return _insert(source, tokens)
    return _other(source, tokens)


def _tokens(source: bytes) -> Iterator[Token]:
    position, depth = 0, 0
    while position < len(source):
        found = _TOKEN.match(source, position)
        kind = found.lastgroup if found else None
        if found is None or kind is None:
            raise EngineError(62, "SYNTAX_ERROR", f"The statement cannot be read at byte {position}.")
        start, position = position, found.end()
        if kind == "nested":
            position = _end_of_comment(source, position)
        elif kind not in ("space", "comment"):
            text = "" if kind in ("string", "heredoc", "number") else _text(found.group(), kind)
            depth -= text in _CLOSING and kind == "symbol"
            yield Token(_kind(kind), text, start, position, depth)
            depth += text in _OPENING and kind == "symbol"


def _kind(group: str) -> Kind:
    if group == "word":
        return "word"
    if group == "quoted":
        return "quoted"
    return "symbol" if group == "symbol" else "string"


def _text(raw: bytes, kind: str) -> str:
    text = raw.decode("utf-8", "replace")
    if kind != "quoted":
        return text
    return re.sub(r"\\(.)|([`\"])\2", lambda found: found.group(1) or found.group(2), text[1:-1], flags=re.DOTALL)


def _end_of_comment(source: bytes, position: int) -> int:
    nesting = 1
    while nesting:
        mark = _NESTED.search(source, position)
        if mark is None:
            raise EngineError(62, "SYNTAX_ERROR", "A comment is not closed.")
        nesting += 1 if mark.group() == b"/*" else -1
        position = mark.end()
    return position


def _brings_data(tokens: list[Token]) -> bool:
    """Whether an INSERT's data begins after the last of these tokens."""
    last = tokens[-1]
    if len(tokens) > 1 and tokens[-2].says("FORMAT") and last.kind in ("word", "quoted"):
        return _after_the_table(tokens[:-2])
    return last.says("VALUES") and _after_the_table(tokens[:-1])


def _after_the_table(tokens: list[Token]) -> bool:
    """Whether these tokens of an INSERT name its table already and no source of rows yet."""
    rest = tokens[1:]
    while rest and rest[0].says("INTO", "TABLE", "FUNCTION"):
        rest = rest[1:]
    return bool(rest) and not any(token.says(*_INSERT_TAKES) for token in rest[1:])


def _insert(source: bytes, tokens: list[Token]) -> Statement:
    last = tokens[-1]
    by_format = not last.says("VALUES") or tokens[-2].says("FORMAT")
    format_ = last.text if by_format else "Values"
    head = tokens[:-2] if by_format else tokens[:-1]
    begin = last.end
    if by_format:
        # ClickHouse skips blanks and one line end after the name of the format; every byte after that is data.
        while source[begin : begin + 1] in (b" ", b"\t", b"\f"):
            begin += 1
        begin += source[begin : begin + 1] == b"\r"
        begin += source[begin : begin + 1] == b"\n"
    text = source[: head[-1].end]
    return Statement(text, "INSERT", format_, memoryview(source)[begin:], tuple(head))


def _other(source: bytes, tokens: list[Token]) -> Statement:
    while tokens and tokens[-1].kind == "symbol" and tokens[-1].text == ";":
        tokens.pop()
    if not tokens:
        raise EngineError(62, "SYNTAX_ERROR", "Empty query.")
    if any(token.kind == "symbol" and token.text == ";" for token in tokens):
        raise EngineError(62, "SYNTAX_ERROR", "Multi-statements are not allowed.")
    text = source[: tokens[-1].end]
    verb = next((token.text.upper() for token in tokens if token.kind == "word"), "")
    return Statement(text, verb, _output_format(tokens), None, tuple(tokens))


def _output_format(tokens: list[Token]) -> str | None:
    """The format of the answer: `FORMAT name` at the end, or before a last SETTINGS clause."""
    for index in range(len(tokens) - 2, -1, -1):
        if tokens[index].says("FORMAT") and tokens[index + 1].kind in ("word", "quoted"):
            after = tokens[index + 2 :]
            return tokens[index + 1].text if not after or after[0].says("SETTINGS") else None
    return None
