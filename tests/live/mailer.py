"""An application that submits mail by SMTP with the standard library, and writes down every yes it heard."""

from __future__ import annotations

import smtplib
import ssl
import threading
import time
from dataclasses import dataclass, field
from email.message import EmailMessage

from depesche.infra.local.seed import Demo
from depesche.schemas.settings import Settings


def trusting() -> ssl.SSLContext:
    """A client's TLS context that takes the self-made certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def a_mail(
    recipient: str, subject: str = "Hello", text: str = "Every step is a record.\r\n", **headers: str
) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "hello@shop.test", recipient, subject
    for name, value in headers.items():
        mail[name.replace("_", "-")] = value
    mail.set_content(text)
    return mail


def logged_in(settings: Settings, demo: Demo, *, implicit: bool = False) -> smtplib.SMTP:
    """A connection that may send."""
    if implicit:
        client: smtplib.SMTP = smtplib.SMTP_SSL("127.0.0.1", settings.smtp.tls_port, timeout=30, context=trusting())
    else:
        client = smtplib.SMTP("127.0.0.1", settings.smtp.port, timeout=30)
        client.starttls(context=trusting())
    client.login(demo.user, demo.password)
    return client


@dataclass
class Mailer:
    """Several threads that submit until all mails are accepted, however often a connection breaks."""

    settings: Settings
    demo: Demo
    count: int
    domain: str = "sandbox.test"
    threads: int = 4
    accepted: list[str] = field(default_factory=list)
    put_off: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _next: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _running: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._running = [threading.Thread(target=self._work, daemon=True) for _ in range(self.threads)]
        for thread in self._running:
            thread.start()

    def join(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for thread in self._running:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"only {len(self.accepted)} of {self.count} were accepted in time"

    def _take(self) -> int | None:
        with self._lock:
            if self._next >= self.count:
                return None
            self._next += 1
            return self._next

    def _work(self) -> None:
        client: smtplib.SMTP | None = None
        while (number := self._take()) is not None:
            message_id = f"<{number}.{id(self)}@shop.test>"
            mail = a_mail(f"r{number}@{self.domain}", Message_ID=message_id)
            while True:
                try:
                    client = client or logged_in(self.settings, self.demo)
                    client.send_message(mail)
                except smtplib.SMTPResponseException as reply:
                    (self.put_off if reply.smtp_code // 100 == 4 else self.refused).append(
                        f"{reply.smtp_code} {reply.smtp_error!r}"
                    )
                    client = _left(client) if reply.smtp_code == 421 else client
                    time.sleep(0.2)
                except smtplib.SMTPRecipientsRefused as reply:
                    self.refused.append(str(list(reply.recipients.values())[:1]))
                except (smtplib.SMTPException, OSError):
                    client = _left(client)
                    time.sleep(0.2)
                else:
                    self.accepted.append(message_id)
                    break
        _left(client)


def _left(client: smtplib.SMTP | None) -> None:
    if client is not None:
        client.close()
