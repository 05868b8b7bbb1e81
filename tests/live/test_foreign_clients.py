"""Clients that nobody here wrote submit over both ports; what must be refused is refused with the right reply."""

import os
import re
import shutil
import smtplib
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.conftest import Stack
from tests.live.mailer import a_mail, logged_in, trusting

SWAKS, MSMTP, NODE = shutil.which("swaks"), shutil.which("msmtp"), shutil.which("node")
NODEMAILER = Path(__file__).parents[2] / "build" / "foreign" / "node_modules" / "nodemailer"


def _swaks(stack: Stack, recipient: str, *more: str, implicit: bool = False) -> subprocess.CompletedProcess[str]:
    port, tls = (stack.settings.smtp.tls_port, "-tlsc") if implicit else (stack.settings.smtp.port, "-tls")
    return subprocess.run(
        [
            *(
                SWAKS or "swaks",
                "--server",
                "127.0.0.1",
                "--port",
                str(port),
                tls,
                "--auth",
                "LOGIN",
                "--from",
                "hello@shop.test",
            ),
            *("--auth-user", stack.demo.user, "--auth-password", stack.demo.password, "--to", recipient, *more),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def swaks(stack: Stack, recipient: str, implicit: bool) -> None:
    done = _swaks(stack, recipient, "--body", "by swaks", implicit=implicit)
    assert done.returncode == 0, done.stdout[-800:]


def smtplib_(stack: Stack, recipient: str, implicit: bool) -> None:
    with logged_in(stack.settings, stack.demo, implicit=implicit) as client:
        assert client.send_message(a_mail(recipient)) == {}


def msmtp(stack: Stack, recipient: str, implicit: bool) -> None:
    port = stack.settings.smtp.tls_port if implicit else stack.settings.smtp.port
    done = subprocess.run(
        [
            *(
                MSMTP or "msmtp",
                "--host=127.0.0.1",
                f"--port={port}",
                "--tls=on",
                f"--tls-starttls={'off' if implicit else 'on'}",
            ),
            *("--tls-certcheck=off", "--auth=plain", f"--user={stack.demo.user}", '--passwordeval=printf %s "$PW"'),
            *("--from=hello@shop.test", recipient),
        ],
        input=a_mail(recipient).as_bytes(),
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PW": stack.demo.password},
    )
    assert done.returncode == 0, done.stderr


def nodemailer(stack: Stack, recipient: str, implicit: bool) -> None:
    port = stack.settings.smtp.tls_port if implicit else stack.settings.smtp.port
    script = """
      const [dir, port, secure, user, pass, to] = process.argv.slice(1);
      const transport = require(dir).createTransport({host: '127.0.0.1', port: +port, secure: secure === 'true',
        auth: {user, pass}, tls: {rejectUnauthorized: false}});
      transport.sendMail({from: 'hello@shop.test', to, subject: 'nodemailer', text: 'Grüße', html: '<p>Grüße</p>',
        attachments: [{filename: 'übersicht.txt', content: 'x'}]})
        .then(() => transport.close(), e => { console.error(e); process.exit(1); });
    """
    done = subprocess.run(
        [
            NODE or "node",
            "-e",
            script,
            str(NODEMAILER),
            str(port),
            str(implicit).lower(),
            stack.demo.user,
            stack.demo.password,
            recipient,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


#: Those that are on this machine; `make foreign` fetches nodemailer.
CLIENTS: list[Callable[[Stack, str, bool], None]] = [
    client
    for client, there in ((smtplib_, True), (swaks, SWAKS), (msmtp, MSMTP), (nodemailer, NODE and NODEMAILER.exists()))
    if there
]


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "tls"])
@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: c.__name__.strip("_"))
def test_a_foreign_client_submits_and_the_mail_arrives(
    client: Callable[..., None], implicit: bool, stack: Stack
) -> None:
    recipient = f"{client.__name__}-{implicit}@inbox.test".lower()
    client(stack, recipient, implicit)
    assert stack.arrived(recipient)


def test_an_oversized_mail_is_refused_before_and_after_data(stack: Stack) -> None:
    with logged_in(stack.settings, stack.demo) as client:
        limit = stack.settings.smtp.max_size
        code, text = client.mail("hello@shop.test", [f"size={limit + 1}"])
        assert (code, text[:5]) == (552, b"5.3.4")
        client.rset()
        # Without SIZE= the size shows only while the content comes.
        assert client.mail("hello@shop.test")[0] == 250
        assert client.rcpt("x@sandbox.test")[0] == 250
        lines = b"From: hello@shop.test\r\n\r\n" + (b"x" * 900 + b"\r\n") * (limit // 900)
        assert client.data(lines)[0] == 552


def test_a_wrong_password_is_refused_and_does_not_say_whether_the_user_exists(stack: Stack) -> None:
    replies = set()
    for user in (stack.demo.user, "nobody"):
        with smtplib.SMTP("127.0.0.1", stack.settings.smtp.port, timeout=30) as client:
            client.starttls(context=trusting())
            with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
                client.login(user, "wrong")
            replies.add((refused.value.smtp_code, refused.value.smtp_error))
    assert len(replies) == 1
    assert replies.pop()[0] == 535


def test_a_login_without_tls_is_not_possible(stack: Stack) -> None:
    with smtplib.SMTP("127.0.0.1", stack.settings.smtp.port, timeout=30) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        assert client.docmd("AUTH", "PLAIN AGEAYg==")[0] in (530, 538)
        assert client.mail("hello@shop.test")[0] == 530


def test_an_unregistered_sender_is_refused(stack: Stack) -> None:
    with logged_in(stack.settings, stack.demo) as client:
        code, text = client.mail("eve@elsewhere.test")
        assert (code, text[:5]) == (550, b"5.7.1")
    with logged_in(stack.settings, stack.demo) as client:
        forged = b"From: eve@elsewhere.test\r\nTo: x@sandbox.test\r\n\r\nx\r\n"
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail("hello@shop.test", ["x@sandbox.test"], forged)
        assert refused.value.smtp_code == 550


def test_a_bare_line_feed_is_refused(stack: Stack) -> None:
    with logged_in(stack.settings, stack.demo) as client:
        client.mail("hello@shop.test")
        client.rcpt("x@sandbox.test")
        assert client.docmd("DATA")[0] == 354
        client.send(b"From: hello@shop.test\r\nSubject: s\r\n\r\none\n.\nMAIL FROM:<eve@elsewhere.test>\r\n.\r\n")
        code, text = client.getreply()
        assert (code, text[:3]) == (550, b"5.6") or (code, text[:3]) == (554, b"5.6")


def test_the_1001st_recipient_is_put_off_and_the_1000_are_taken(stack: Stack) -> None:
    with logged_in(stack.settings, stack.demo) as client:
        client.mail("hello@shop.test")
        codes = [client.rcpt(f"many-{number}@sandbox.test")[0] for number in range(1001)]
        assert set(codes[:1000]) == {250}
        assert codes[1000] == 452
        code, text = client.data(a_mail("many@sandbox.test").as_bytes().replace(b"\n", b"\r\n"))
        assert code == 250
        job = re.search(rb"[0-9a-f]{8}-[0-9a-f-]{27}", text)
        assert job
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        audit = stack.depesche("search", f"id:{job[0].decode()}", "status:delivered", "--limit", "200", "--json")
        if len(audit.stdout.splitlines()) == 200:
            break
        time.sleep(0.5)
    assert len(audit.stdout.splitlines()) == 200


def test_pipelined_commands_are_answered_in_order(stack: Stack) -> None:
    with socket.create_connection(("127.0.0.1", stack.settings.smtp.port), timeout=30) as wire:
        wire.sendall(b"EHLO a\r\nNOOP\r\nVRFY x\r\nRSET\r\nQUIT\r\n")
        said = b""
        while chunk := wire.recv(65536):
            said += chunk
    assert b"PIPELINING" in said
    assert [line[:3] for line in said.split(b"\r\n") if line[3:4] == b" "] == [
        b"220",
        b"250",
        b"250",
        b"252",
        b"250",
        b"221",
    ]
