"""The desk of the sink: what all its conversations share, and where every received mail is written down."""

import itertools
import os
import ssl
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog

from depesche.infra.local.certificate import Validity, ensure_certificate
from depesche.infra.local.sink.answers import Answer, say
from depesche.infra.local.sink.ground_truth import Arrival, GroundTruth, measure
from depesche.infra.local.sink.listeners import TLS, Listener, Step
from depesche.infra.local.sink.mailbox import Mailbox
from depesche.infra.local.sink.scenarios import Script

_TROUBLE = say("451 4.3.0 The sink cannot write, try again later")


class Conversation(Protocol):
    """An open connection, as far as the desk knows it."""

    def hang_up(self) -> None:
        """End the connection at once."""
        ...


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who sent to whom, over which connection."""

    session: str
    listener: str
    tls: bool
    sender: str
    recipients: list[str]


@dataclass(slots=True)
class Counters:
    """What the sink has seen since it started. `mails` and `content_bytes` count final dots, `kept` what it took,
    `over_quota` refusals because too much came at once, `refused` those that are a listener's manner, by its label."""

    sessions: int = 0
    tls_sessions: int = 0
    mails: int = 0
    kept: int = 0
    content_bytes: int = 0
    over_quota: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Desk:
    """What all conversations share. `truth` and `mailbox` may be missing: then mails are counted and thrown away."""

    def __init__(
        self,
        script: Script,
        truth: GroundTruth | None,
        mailbox: Mailbox | None,
        tls_folder: Path,
        host_names: Sequence[str],
    ) -> None:
        self.counters = Counters()
        self.conversations: set[Conversation] = set()
        self.script = script
        self.mailbox = mailbox
        self._truth = truth
        self._tls_folder = tls_folder
        self._host_names = host_names
        self._contexts: dict[TLS, ssl.SSLContext] = {}
        self._names = itertools.count(1)
        self._taken: dict[str, deque[float]] = {}
        # The start time and the process make session names unique over restarts.
        self._prefix = f"{int(time.time()):x}-{os.getpid():x}"

    def next_session_name(self) -> str:
        """Return a name no other session has."""
        return f"{self._prefix}-{next(self._names):x}"

    def tls_context(self, kind: TLS) -> ssl.SSLContext:
        """Return the context of a listener; certificates are made when first needed."""
        if kind not in self._contexts:
            names = ["mail.elsewhere.example"] if kind == "wrongname" else self._host_names
            validity = Validity(-400, -35) if kind == "expired" else None
            made = ensure_certificate(self._tls_folder, kind, names, validity=validity)
            self._contexts[kind] = made.server_context()
        return self._contexts[kind]

    def answer_at(self, listener: Listener, step: Step, usual: Answer, now: float) -> Answer:
        """Return what a listener says at a step, at `now` (seconds of a steady clock): its own answer or the usual one."""
        quota = listener.quota
        if quota is None or step != "MAIL":
            answer = listener.answers.get(step, usual)
            self.counters.refused[listener.label] += not answer.accepts
            return answer
        taken = self._taken.setdefault(listener.label, deque())
        while taken and now - taken[0] >= quota.seconds:
            taken.popleft()
        if len(taken) >= quota.count:
            self.counters.over_quota += 1
            return quota.answer
        taken.append(now)
        return usual

    def receive(self, envelope: Envelope, content: bytes, answer: Answer, kept: bool) -> Answer:
        """Write down a mail and return what to say: the answer, or a 451 when it cannot be written down."""
        self.counters.mails += 1
        self.counters.content_bytes += len(content)
        if self._truth is not None or self.mailbox is not None:
            try:
                self._keep(envelope, content, answer, kept)
            except OSError as error:
                structlog.get_logger().error("sink cannot write", reason=str(error))
                return _TROUBLE
        self.counters.kept += kept
        return answer

    def _keep(self, envelope: Envelope, content: bytes, answer: Answer, kept: bool) -> None:
        measured = measure(content, newlines=self.mailbox is not None)
        arrival = Arrival(
            time=time.time(),
            session=envelope.session,
            listener=envelope.listener,
            sender=envelope.sender,
            recipients=envelope.recipients,
            size=measured.size,
            sha256=measured.sha256,
            body_sha256=measured.body_sha256,
            message_id=measured.message_id,
            reply=answer.reply[:200].decode("utf-8", "backslashreplace").rstrip("\r\n"),
            kept=kept,
            tls=envelope.tls,
            bare_newline=measured.bare_newline,
        )
        if self._truth is not None:
            self._truth.write(arrival)
        if self.mailbox is not None and kept:
            self.mailbox.put(arrival, content)

    def hang_up(self) -> None:
        """End all conversations; to be called in the event loop."""
        for conversation in list(self.conversations):
            conversation.hang_up()

    def close(self) -> None:
        """Write what waits; blocks."""
        if self.mailbox is not None:
            self.mailbox.close()
        if self._truth is not None:
            self._truth.close()
