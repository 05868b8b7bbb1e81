"""An HTTP request becomes the call that ClickHouse would make of it, and only with the right password."""

import base64
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.infra.local.engine_errors import EngineError
from depesche.infra.local.engine_query import quoted
from depesche.infra.local.engine_request import Credentials, decompressed, fields_of, read_request

RIGHT = Credentials("default", "päss:word")


def _basic(text: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"x-clickhouse-user": "default", "x-clickhouse-key": "päss:word"}, b""),
        ({"x-clickhouse-key": "päss:word"}, b""),
        (_basic("default:päss:word"), b""),
        ({}, b"user=default&password=p%C3%A4ss%3Aword"),
        ({}, b"password=p%C3%A4ss:word"),
    ],
)
def test_the_right_password_is_taken_in_every_form(headers: dict[str, str], query: bytes) -> None:
    RIGHT.check(headers, fields_of(query))


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({}, b"", 401),
        ({}, b"user=default", 403),
        ({"x-clickhouse-user": "default"}, b"password=p%C3%A4ss:word", 403),
        (_basic("default"), b"", 403),
        (_basic("other:päss:word"), b"", 403),
        ({"authorization": "Basic %%%"}, b"", 403),
        ({"authorization": "Bearer päss:word"}, b"", 401),
        ({}, b"password=%ff", 403),
    ],
)
def test_anything_else_is_refused(headers: dict[str, str], query: bytes, status: int) -> None:
    with pytest.raises(EngineError) as caught:
        RIGHT.check(headers, fields_of(query))
    assert caught.value.status == status


def test_settings_parameters_and_transport_are_told_apart() -> None:
    fields = fields_of(
        b"param_x=1&max_threads=2&session_id=s&query_id=q&database=d&wait_end_of_query=1&session_timeout=9"
    )
    request = read_request("POST", {}, fields, b"SELECT {x:Int32}")
    call = request.call
    assert dict(call.parameters) == {"x": "1"}
    assert dict(call.settings) == {"max_threads": "2"}
    assert (call.query_id, call.database, call.buffered, call.read_only) == ("q", "d", True, False)
    assert request.session is not None
    assert (request.session.name, request.session.seconds, request.session.must_exist) == ("s", 9, False)


def test_the_statement_is_the_field_then_the_body() -> None:
    call = read_request("POST", {}, {"query": "INSERT INTO t FORMAT TSV"}, b"1\n").call
    assert call.statement.data is not None
    assert bytes(call.statement.data) == b"1\n"
    assert read_request("GET", {}, {"query": "SELECT 1"}, b"").call.read_only


def test_a_form_carries_statement_and_parameters() -> None:
    body = (
        b'--B\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT {x:String}\r\n'
        b'--B\r\nContent-Disposition: form-data; name="param_x"\r\n\r\n\xc3\xa4\\n\r\n--B--\r\n'
    )
    call = read_request("POST", {"content-type": "multipart/form-data; boundary=B"}, {}, body).call
    assert (call.statement.text, dict(call.parameters)) == (b"SELECT {x:String}", {"x": "ä\\n"})


@pytest.mark.parametrize("timeout", ["0", "-1", "x", "3601", "1.5", ""])
def test_a_session_lasts_a_sensible_time(timeout: str) -> None:
    with pytest.raises(EngineError) as caught:
        read_request("POST", {}, {"session_id": "s", "session_timeout": timeout}, b"SELECT 1")
    assert caught.value.code == 374


@given(st.binary(max_size=500))
def test_compressed_bodies_come_out_as_they_went_in(body: bytes) -> None:
    assert decompressed(gzip.compress(body), "gzip") == body
    assert decompressed(body, "") == body


@pytest.mark.parametrize("encoding", ["gzip", "lz4", "zstd", "br", "no-such-thing"])
def test_a_broken_body_is_an_error_of_the_client(encoding: str) -> None:
    with pytest.raises(EngineError):
        decompressed(b"this is not compressed at all", encoding)


@given(st.text())
def test_a_quoted_text_is_one_literal(text: str) -> None:
    literal = quoted(text)
    assert literal[0] == literal[-1] == "'"
    inner = literal[1:-1].replace("\\\\", "").replace("\\'", "")
    assert "'" not in inner
    assert "\\" not in inner
