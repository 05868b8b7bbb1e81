"""What clients of ClickHouse may rely on over HTTP, held by the embedded engine with foreign clients only."""

import asyncio
import gzip
import io
import json
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any, Protocol

import clickhouse_connect
import httpx
import lz4.frame
import pandas as pd
import pyarrow as pa
import pytest
import pytest_asyncio
from backports import zstd
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError


class Engine(Protocol):
    """What a test needs to know of the running engine (see conftest)."""

    host: str
    port: int
    user: str
    password: str
    url: str


def _client(engine: Engine, **options: Any) -> Any:
    return clickhouse_connect.get_client(
        host=engine.host, port=engine.port, username=engine.user, password=engine.password, **options
    )


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def client(engine: Engine, request: pytest.FixtureRequest) -> Iterator[Any]:
    client = _client(engine, compress=request.param)
    client.command("DROP TABLE IF EXISTS letters")
    client.command(
        "CREATE TABLE letters (id UInt64, text String, at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY id "
        "SETTINGS non_replicated_deduplication_window = 100"
    )
    yield client
    client.command("DROP TABLE letters")
    client.close()


@pytest_asyncio.fixture
async def http(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    credentials = {"X-ClickHouse-User": engine.user, "X-ClickHouse-Key": engine.password}
    async with httpx.AsyncClient(base_url=engine.url, headers=credentials, trust_env=False, timeout=60) as http:
        await http.post("/", content="CREATE TABLE IF NOT EXISTS t (a Int32, s String) ENGINE = Memory")
        await http.post("/", content="TRUNCATE TABLE t")
        yield http


async def _rows(http: httpx.AsyncClient, sql: str, **parameters: str) -> list[list[str]]:
    answer = await http.post("/", params=parameters, content=sql)
    assert answer.status_code == 200, answer.text
    return [line.split("\t") for line in answer.text.splitlines()]


# -- the driver ------------------------------------------------------------------------------------------------------


def test_rows_go_in_and_come_out_unchanged(client: Any) -> None:
    # The driver gives moments in UTC without a zone.
    moment = datetime.fromisoformat("2026-05-01T12:00:00.123")
    rows = [[1, "tab\tline\nquote'back\\ ümläut 🕊", moment], [2, "", moment]]
    summary = client.insert("letters", rows, column_names=["id", "text", "at"])
    assert summary.written_rows == 2
    found = client.query("SELECT * FROM letters ORDER BY id").result_rows
    assert found == [(1, rows[0][1], moment), (2, "", moment)]


def test_parameters_reach_the_engine_as_values(client: Any) -> None:
    nasty = "'; DROP TABLE letters; -- \\ \t\n {x:String}"
    found = client.query(
        "SELECT {n:Int32} + 1, {s:String}, {l:Array(String)}", {"n": 41, "s": nasty, "l": [nasty, "b"]}
    )
    assert found.result_rows == [(42, nasty, [nasty, "b"])]


def test_many_parameters_travel_in_a_form(client: Any) -> None:
    wanted = [f"recipient{number}@example.org" for number in range(5000)]
    found = client.query("SELECT length({l:Array(String)}), {l:Array(String)}[5000]", {"l": wanted})
    assert found.result_rows == [(5000, wanted[-1])]


def test_frames_and_arrow_tables_go_in_and_come_out(client: Any) -> None:
    table = pa.table({"id": pa.array(range(100_000), pa.uint64()), "text": [str(n) for n in range(100_000)]})
    assert client.insert_arrow("letters", table).written_rows == 100_000
    client.insert_df("letters", pd.DataFrame({"id": [7], "text": ["seven"]}))
    assert client.query_df("SELECT count() AS n, max(id) AS top FROM letters").to_dict("list") == {
        "n": [100_001],
        "top": [99_999],
    }
    assert client.query_arrow("SELECT id FROM letters WHERE id < 3 ORDER BY id").column("id").to_pylist() == [0, 1, 2]


def test_a_wrong_statement_is_a_database_error_in_the_engines_words(client: Any) -> None:
    with pytest.raises(DatabaseError, match="Unknown expression identifier `nope`") as caught:
        client.query("SELECT nope")
    assert (caught.value.code, caught.value.name) == (47, "UNKNOWN_IDENTIFIER")


def test_an_insert_with_a_known_token_is_stored_once(client: Any) -> None:
    rows = [[1, "once", pd.Timestamp(0, tz="UTC")]]
    for token in ("first", "first", "second"):
        client.insert(
            "letters", rows, column_names=["id", "text", "at"], settings={"insert_deduplication_token": token}
        )
    assert client.command("SELECT count() FROM letters") == 2


def test_settings_hold_for_their_query_only(client: Any) -> None:
    read = "SELECT getSetting('max_threads')"
    before = client.command(read)
    assert client.command(read, settings={"max_threads": 1}) == 1
    assert client.command(read) == before
    client.command("SET max_threads = 3")
    assert client.command(read) == 3
    assert client.command(read, settings={"max_threads": 2}) == 2
    assert client.command(read) == 3


def test_a_time_limit_is_kept(client: Any) -> None:
    with pytest.raises(DatabaseError, match="Timeout exceeded"):
        client.query(
            "SELECT sum(sleepEachRow(0.01)) FROM numbers(10000)",
            settings={"max_execution_time": 1, "max_block_size": 10},
        )


def test_a_long_answer_is_streamed_and_may_be_left_early(client: Any) -> None:
    with client.query_row_block_stream("SELECT number, toString(number) FROM numbers(5000000)") as stream:
        assert len(next(iter(stream))) > 0
    assert client.command("SELECT 1") == 1


def test_an_error_after_the_first_rows_is_not_taken_for_the_end(client: Any) -> None:
    failing = "SELECT throwIf(number = 3000000, 'late') FROM numbers(5000000)"
    with pytest.raises(StreamFailureError, match="late"), client.query_row_block_stream(failing) as stream:
        for _ in stream:
            pass


async def test_the_asynchronous_client_runs_queries_side_by_side(engine: Engine) -> None:
    client = await clickhouse_connect.get_async_client(
        host=engine.host, port=engine.port, username=engine.user, password=engine.password, compress=False
    )
    try:
        found = await asyncio.gather(*(client.query("SELECT {n:Int32}", {"n": number}) for number in range(30)))
        assert [each.result_rows[0][0] for each in found] == list(range(30))
        await client.command("CREATE TABLE side (n Int32) ENGINE = MergeTree ORDER BY n")
        await asyncio.gather(*(client.insert("side", [[number]], column_names=["n"]) for number in range(20)))
        assert await client.command("SELECT sum(n) FROM side") == 190
        await client.command("DROP TABLE side")
    finally:
        await client.close()


# -- plain HTTP ------------------------------------------------------------------------------------------------------


async def test_only_the_health_check_needs_no_password(engine: Engine) -> None:
    async with httpx.AsyncClient(base_url=engine.url, trust_env=False) as http:
        assert (await http.get("/ping")).text == (await http.get("/replicas_status")).text == "Ok.\n"
        unnamed = await http.get("/", params={"query": "SELECT 1"})
        assert (unnamed.status_code, unnamed.headers["X-ClickHouse-Exception-Code"]) == (401, "194")
        for wrong in ((engine.user, "wrong"), ("stranger", engine.password), ("", ""), ("ü", "ü")):
            refused = await http.post("/", content="SELECT 1", auth=wrong)
            assert (refused.status_code, refused.headers["X-ClickHouse-Exception-Code"]) == (403, "516")
        assert (await http.post("/", content="SELECT 1", auth=(engine.user, engine.password))).text == "1\n"
        fields = {"query": "SELECT 1", "user": engine.user, "password": engine.password}
        assert (await http.get("/", params=fields)).text == "1\n"


async def test_the_answer_carries_clickhouses_headers(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/", params={"query_id": "mine"}, content="SELECT number FROM numbers(5) FORMAT JSONEachRow"
    )
    assert answer.headers["X-ClickHouse-Query-Id"] == "mine"
    assert answer.headers["X-ClickHouse-Format"] == "JSONEachRow"
    assert answer.headers["Content-Type"].startswith("application/x-ndjson")
    assert answer.headers["X-ClickHouse-Timezone"]
    assert json.loads(answer.headers["X-ClickHouse-Summary"])["read_rows"] == "5"
    assert [json.loads(line)["number"] for line in answer.text.splitlines()] == [0, 1, 2, 3, 4]


async def test_the_format_may_come_from_statement_parameter_or_header(http: httpx.AsyncClient) -> None:
    assert (await http.post("/", content="SELECT 1 AS a FORMAT CSVWithNames")).text == '"a"\n1\n'
    assert (await http.post("/", params={"default_format": "JSONEachRow"}, content="SELECT 1 AS a")).text == '{"a":1}\n'
    assert (await http.post("/", headers={"X-ClickHouse-Format": "TSKV"}, content="SELECT 1 AS a")).text == "a=1\n"


def _arrow(writer: Any) -> bytes:
    table = pa.table({"a": pa.array([1], pa.int32()), "s": ["x"]})
    buffer = io.BytesIO()
    with writer(buffer, table.schema) as out:
        out.write_table(table)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("format_", "data"),
    [
        ("JSONEachRow", b'{"a":1,"s":"x"}\n'),
        ("TabSeparated", b"1\tx\n"),
        ("TSV", b"1\tx"),
        ("CSV", b'1,"x"\r\n'),
        ("Values", b"(1, 'x')"),
        ("ArrowStream", _arrow(pa.ipc.new_stream)),
        ("Arrow", _arrow(pa.ipc.new_file)),
    ],
)
async def test_data_in_many_formats_is_inserted(http: httpx.AsyncClient, format_: str, data: bytes) -> None:
    in_body = await http.post("/", content=f"INSERT INTO t (a, s) FORMAT {format_}\n".encode() + data)
    in_field = await http.post("/", params={"query": f"INSERT INTO t FORMAT {format_}"}, content=data)
    assert (in_body.status_code, in_field.status_code) == (200, 200), in_body.text + in_field.text
    assert await _rows(http, "SELECT * FROM t") == [["1", "x"], ["1", "x"]]


@pytest.mark.parametrize("format_", ["Native", "RowBinary", "Avro", "Parquet", "JSONCompactEachRow"])
async def test_what_the_engine_writes_it_reads_again(http: httpx.AsyncClient, format_: str) -> None:
    sql = f"SELECT toInt32(number) AS a, concat('FORMAT Null;\\0', toString(number)) AS s FROM numbers(9) FORMAT {format_}"
    data = (await http.post("/", content=sql)).content
    assert (await http.post("/", params={"query": f"INSERT INTO t FORMAT {format_}"}, content=data)).status_code == 200
    assert await _rows(http, "SELECT count(), sum(a), countIf(s LIKE 'FORMAT Null;%') FROM t") == [["9", "36", "9"]]


async def test_values_may_stand_in_the_statement(http: httpx.AsyncClient) -> None:
    for sql in ("INSERT INTO t VALUES (1, 'a;b'), (1+1, upper('c'));", "insert into default.t (s, a) values ('x', 3)"):
        assert (await http.post("/", content=sql)).status_code == 200
    assert await _rows(http, "SELECT * FROM t ORDER BY a") == [["1", "a;b"], ["2", "C"], ["3", "x"]]


async def test_a_broken_row_stores_nothing_of_its_insert(http: httpx.AsyncClient) -> None:
    broken = await http.post("/", params={"query": "INSERT INTO t FORMAT TSV"}, content=b"1\tx\nno number\ty\n")
    assert broken.status_code == 400
    assert "Cannot parse input" in broken.text
    assert await _rows(http, "SELECT count() FROM t") == [["0"]]


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("lz4", lz4.frame.compress), ("zstd", zstd.compress)]
)
async def test_compressed_bodies_are_read(http: httpx.AsyncClient, encoding: str, compress: Any) -> None:
    body = compress(b"INSERT INTO t FORMAT TSV\n" + b"5\tsame\n" * 10_000)
    assert (await http.post("/", headers={"Content-Encoding": encoding}, content=body)).status_code == 200
    assert await _rows(http, "SELECT count(), sum(a) FROM t") == [["10000", "50000"]]
    cut = await http.post("/", headers={"Content-Encoding": encoding}, content=body[: len(body) // 2])
    assert cut.status_code == 500
    assert await _rows(http, "SELECT count() FROM t") == [["10000"]]


async def test_a_body_that_unpacks_to_more_than_the_limit_is_refused(http: httpx.AsyncClient) -> None:
    bomb = gzip.compress(bytes(257 * 1024 * 1024), 1)
    assert (await http.post("/", headers={"Content-Encoding": "gzip"}, content=bomb)).status_code == 413


async def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(engine: Engine) -> None:
    reader, writer = await asyncio.open_connection(engine.host, engine.port)
    head = f"POST /?user={engine.user}&password={engine.password.replace(' ', '+')} HTTP/1.1\r\nHost: x\r\n"
    writer.write(f"{head}Content-Length: 999999999999\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()
    await writer.wait_closed()


async def test_errors_have_clickhouses_status_and_number(http: httpx.AsyncClient) -> None:
    cases = {
        "SELEC 1": (400, "62"),
        "SELECT 1; SELECT 2": (400, "62"),
        "SELECT * FROM no_such_table": (404, "60"),
        "SELECT toInt32('x')": (400, "6"),
        "SELECT throwIf(1)": (500, "395"),
        "": (400, "62"),
    }
    for sql, expected in cases.items():
        answer = await http.post("/", content=sql)
        assert (answer.status_code, answer.headers["X-ClickHouse-Exception-Code"]) == expected, sql
        assert answer.text.startswith(f"Code: {expected[1]}. DB::Exception: ")
    unknown = await http.post("/", params={"no_such_setting": "1"}, content="SELECT 1")
    assert (unknown.status_code, unknown.headers["X-ClickHouse-Exception-Code"]) == (404, "115")
    assert (await http.post("/", params={"database": "nowhere"}, content="SELECT 1")).status_code == 404
    assert (await http.post("/elsewhere", content="SELECT 1")).status_code == 404
    assert (await http.put("/", content="SELECT 1")).status_code == 405


async def test_a_get_request_only_reads(http: httpx.AsyncClient) -> None:
    for session in ({}, {"session_id": "reader"}):
        for sql in ("INSERT INTO t VALUES (1, 'x')", "TRUNCATE TABLE t", "WITH 1 AS x INSERT INTO t SELECT x, ''"):
            answer = await http.get("/", params={"query": sql, **session})
            assert answer.headers["X-ClickHouse-Exception-Code"] == "164", sql
        assert (await http.get("/", params={"query": "SELECT count() FROM t", **session})).text == "0\n"


async def test_a_session_keeps_what_was_set_in_it(http: httpx.AsyncClient) -> None:
    mine = {"session_id": "mine"}
    missing = await http.post("/", params={**mine, "session_check": "1"}, content="SELECT 1")
    assert missing.headers["X-ClickHouse-Exception-Code"] == "372"
    await _rows(http, "CREATE TEMPORARY TABLE kept (a Int32)", **mine)
    await _rows(http, "INSERT INTO kept VALUES (7)", **mine)
    assert await _rows(http, "SELECT * FROM kept", **mine) == [["7"]]
    assert (await http.post("/", params={"session_id": "other"}, content="SELECT * FROM kept")).status_code == 404


async def test_a_session_serves_one_request_at_a_time(http: httpx.AsyncClient) -> None:
    slow = {"session_id": "slow", "max_block_size": "10"}
    running = asyncio.ensure_future(_rows(http, "SELECT sum(sleepEachRow(0.01)) FROM numbers(100)", **slow))
    await _until(
        http,
        "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow(0.01)%' AND query NOT LIKE '%processes%'",
    )
    locked = await http.post("/", params={"session_id": "slow"}, content="SELECT 1")
    assert locked.headers["X-ClickHouse-Exception-Code"] == "373"
    await running
    assert await _rows(http, "SELECT 1", session_id="slow") == [["1"]]


async def _until(http: httpx.AsyncClient, count_sql: str, wanted: str = "1") -> None:
    for _ in range(200):
        if await _rows(http, count_sql) == [[wanted]]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"never {wanted}: {count_sql}")


async def test_a_reader_that_hangs_up_ends_its_query(http: httpx.AsyncClient) -> None:
    count = (
        "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow(0.02)%' AND query NOT LIKE '%processes%'"
    )
    endless = {"query": "SELECT sum(sleepEachRow(0.02)) FROM numbers(100000)", "max_block_size": "10"}
    running = asyncio.ensure_future(http.get("/", params=endless))
    await _until(http, count)
    running.cancel()
    await asyncio.wait([running])
    await _until(http, count, "0")


async def test_long_reports_do_not_keep_rows_from_being_stored(http: httpx.AsyncClient) -> None:
    report = {"query": "SELECT sum(sleepEachRow(0.03)) FROM numbers(100000)", "max_block_size": "10"}
    reports = [asyncio.ensure_future(http.get("/", params=report)) for _ in range(4)]
    await asyncio.sleep(0.2)
    assert (await http.post("/", content="INSERT INTO t VALUES (1, 'x')")).status_code == 200
    for each in reports:
        each.cancel()
    await asyncio.wait(reports)
    assert await _rows(http, "SELECT count() FROM t") == [["1"]]


async def test_nothing_reaches_out_of_the_directory(http: httpx.AsyncClient) -> None:
    for sql in (
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "DESCRIBE TABLE file('/etc/passwd', 'LineAsString')",
        "INSERT INTO FUNCTION file('/tmp/x', 'TSV', 'a String') VALUES ('x')",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT LineAsString",
        "SELECT * FROM url('http://127.0.0.1:1/', 'TSV', 'a String')",
        "CREATE TABLE x (a String) ENGINE = File(TSV, '/etc/passwd')",
        "SYSTEM SHUTDOWN",
    ):
        answer = await http.post("/", content=sql)
        assert answer.headers.get("X-ClickHouse-Exception-Code") == "344", sql


async def test_rows_are_on_the_disk_before_an_insert_is_answered(http: httpx.AsyncClient) -> None:
    sql = "SELECT name, value FROM system.merge_tree_settings WHERE name LIKE 'fsync%' ORDER BY name"
    assert await _rows(http, sql) == [["fsync_after_insert", "1"], ["fsync_part_directory", "1"]]


def test_curl_can_talk_to_it(engine: Engine) -> None:
    command = [
        "curl",
        "-sS",
        "--noproxy",
        "*",
        "-u",
        f"{engine.user}:{engine.password}",
        engine.url,
        "-d",
        "SELECT 'from curl'",
    ]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "from curl\n"


# -- the process -----------------------------------------------------------------------------------------------------


def test_a_refused_kafka_table_leaves_the_directory_whole(own_engine: Any) -> None:
    own_engine.start()
    client = _client(own_engine)
    client.command("CREATE TABLE kept (a Int32) ENGINE = MergeTree ORDER BY a")
    client.insert("kept", [[1]], column_names=["a"])
    for spelling in ("ENGINE=Kafka()", "ENGINE /**/ = // x\n `Kafka`", "engine “Kafka” SETTINGS kafka_format = 'JSON'"):
        with pytest.raises(DatabaseError, match="Kafka is refused"):
            client.command(f"CREATE TABLE k (a Int32) {spelling}")
    client.close()
    assert own_engine.stop() == 0
    own_engine.start()
    client = _client(own_engine)
    assert client.command("SELECT count() FROM kept") == 1
    client.close()


def test_a_second_engine_on_the_directory_says_who_has_it(engine: Any, own_engine: Any) -> None:
    own_engine.directory = engine.directory
    with pytest.raises(AssertionError, match=rf"is in use by process {engine.process.pid}\. Stop that process"):
        own_engine.start()
    assert own_engine.process.returncode == 1


def test_what_runs_is_finished_before_the_process_ends(own_engine: Any) -> None:
    own_engine.start()
    answers: list[httpx.Response] = []
    slow = {"query": "SELECT count(), sum(sleepEachRow(0.01)) FROM numbers(150)", "max_block_size": "10"}
    auth = (own_engine.user, own_engine.password)
    asking = threading.Thread(
        target=lambda: answers.append(httpx.get(own_engine.url, params=slow, auth=auth, trust_env=False, timeout=60))
    )
    asking.start()
    time.sleep(0.5)
    assert own_engine.stop() == 0
    asking.join(30)
    assert [answer.text for answer in answers] == ["150\t0\n"]


def test_a_kill_in_the_middle_of_an_insert_loses_nothing_acknowledged(own_engine: Any) -> None:
    own_engine.start()
    client = _client(own_engine)
    client.command("CREATE TABLE batches (batch UInt32, n UInt32) ENGINE = MergeTree ORDER BY (batch, n)")
    client.close()
    rows, acknowledged = 50_000, set()
    for kill in range(2):
        stopped = threading.Event()

        def insert(first: int, stopped: threading.Event) -> None:
            table = pa.table({"n": pa.array(range(rows), pa.uint32())})
            client = _client(own_engine)
            for batch in range(first, first + 100_000):
                column = pa.array([batch] * rows, pa.uint32())
                try:
                    client.insert_arrow("batches", table.append_column("batch", column))
                except Exception:  # The kill shows in as many ways as there are moments; only the count matters.
                    break
                acknowledged.add(batch)
            stopped.set()

        threads = [threading.Thread(target=insert, args=((kill * 2 + each) * 100_000, stopped)) for each in range(2)]
        for thread in threads:
            thread.start()
        while len(acknowledged) < (kill + 1) * 6 and not stopped.is_set():
            time.sleep(0.01)
        own_engine.kill()
        for thread in threads:
            thread.join(60)
        own_engine.start()
    client = _client(own_engine)
    found = dict(client.query("SELECT batch, count() FROM batches GROUP BY batch").result_rows)
    client.close()
    assert len(acknowledged) >= 12
    assert acknowledged <= found.keys()
    assert set(found.values()) == {rows}
