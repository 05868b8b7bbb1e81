"""No log line tells an address or a secret, whoever writes it."""

import json
import subprocess
import sys

from depesche.infra.log import masked, masked_text

SCRIPT = """
import logging, structlog
from depesche.infra import log
log.configure("info", "door")
structlog.get_logger().info("sent", to="ada.lovelace@example.org", password="hunter2", many=["bob@example.org"])
structlog.get_logger().debug("too low")
logging.getLogger("library").warning("no such user %s", "ada@example.org")
try:
    raise ValueError("ada@example.org")
except ValueError:
    structlog.get_logger().exception("broke")
"""


def test_addresses_keep_their_domain_only() -> None:
    text = "to ada.lovelace@example.org and <b+tag@mail.example.org>; not an@address"
    assert masked_text(text) == "to a***@example.org and <b***@mail.example.org>; not an@address"


def test_values_with_secret_names_are_never_written() -> None:
    event = {"api_key": "x", "Authorization": "Bearer x", "nested": {"password": "x", "to": "a@b.org"}, "number": 3}
    assert masked(None, "", dict(event)) == {
        "api_key": "***",
        "Authorization": "***",
        "nested": {"password": "***", "to": "a***@b.org"},
        "number": 3,
    }


def test_every_line_is_json_with_the_process_and_without_addresses() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["sent", "no such user a***@example.org", "broke"]
    assert {line["process"] for line in lines} == {"door"}
    assert [line["level"] for line in lines] == ["info", "warning", "error"]
    assert (lines[0]["to"], lines[0]["password"], lines[0]["many"]) == ("a***@example.org", "***", ["b***@example.org"])
    assert "ValueError: a***@example.org" in lines[2]["exception"]
    assert done.stdout == ""
