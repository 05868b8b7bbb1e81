"""The mailbox of the sandbox: the last mails that were kept, as files that people and programs can open.

Each mail is `<id>.eml`, byte for byte as it arrived, and a line in `index.jsonl` with its envelope. Files are written by a
thread of their own, because a conversation must not wait for them; a mail appears in the index only when its file is whole.
Maildirs (the real Postfix of the sandbox delivers into some) are read by the same two functions.
"""

import contextlib
import email.header
import email.message
import email.parser
import email.policy
import email.utils
import itertools
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from depesche.infra.local.part import private_folder
from depesche.infra.local.sink.ground_truth import Arrival

LARGEST_BACKLOG = 64 * 1024 * 1024
"""Bytes that may wait to be written; beyond it the oldest waiting mails are left out (the ground truth has them)."""
LARGEST_MAILBOX = 512 * 1024 * 1024
"""Bytes of all mails kept; beyond it the oldest go."""

_HEADER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class StoredMail:
    """One mail in a mailbox: `time` is Unix time in seconds, `size` bytes, `sender` and `recipients` the envelope."""

    id: str
    time: float
    sender: str
    recipients: list[str]
    size: int
    message_id: str
    subject: str
    path: Path


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line of the index."""

    id: str
    time: float
    sender: str
    recipients: list[str]
    size: int
    message_id: str


class Mailbox:
    """Keeps the last `keep` mails in a folder. One writer per folder."""

    def __init__(self, folder: Path, keep: int = 500) -> None:
        self.folder = private_folder(folder)
        self.left_out = 0
        self._keep = keep
        self._index = folder / "index.jsonl"
        self._stored: deque[tuple[str, int]] = deque((entry.id, entry.size) for entry in _entries(folder))
        self._bytes = sum(size for _, size in self._stored)
        self._next = 1 + max((int(entry.id) for entry in _entries(folder)), default=0)
        self._waiting: deque[tuple[Arrival, bytes]] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._busy = False
        self._closing = False
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="sink mailbox", daemon=True)
        self._thread.start()

    def put(self, arrival: Arrival, content: bytes) -> None:
        """Have a mail stored soon; microseconds. Raises OSError when an earlier mail could not be written."""
        with self._changed:
            if self._failure is not None:
                raise OSError(f"the mailbox cannot be written: {self._failure}") from self._failure
            self._waiting.append((arrival, content))
            self._waiting_bytes += len(content)
            while self._waiting_bytes > LARGEST_BACKLOG and len(self._waiting) > 1:
                self._waiting_bytes -= len(self._waiting.popleft()[1])
                self.left_out += 1
            self._changed.notify_all()

    def flush(self) -> None:
        """Block until all that was put is stored."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure or not (self._waiting or self._busy))

    def close(self) -> None:
        """Store what waits and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                batch, self._waiting, self._waiting_bytes, self._busy = self._waiting, deque(), 0, True
            # Only the last `keep` can survive this batch, so the others need not be written at all.
            self.left_out += max(0, len(batch) - self._keep)
            try:
                self._store(list(batch)[-self._keep :])
            except OSError as error:
                with self._changed:
                    self._failure = error
                    self._changed.notify_all()
                return

    def _store(self, batch: list[tuple[Arrival, bytes]]) -> None:
        lines = []
        for arrival, content in batch:
            identifier = str(self._next)
            self._next += 1
            (self.folder / f"{identifier}.eml").write_bytes(content)
            lines.append(orjson.dumps(_entry(identifier, arrival), option=orjson.OPT_APPEND_NEWLINE))
            self._stored.append((identifier, len(content)))
            self._bytes += len(content)
        with self._index.open("ab") as file:
            file.write(b"".join(lines))
        self._trim()

    def _trim(self) -> None:
        removed = False
        while len(self._stored) > self._keep or (self._bytes > LARGEST_MAILBOX and len(self._stored) > 1):
            identifier, size = self._stored.popleft()
            (self.folder / f"{identifier}.eml").unlink(missing_ok=True)
            self._bytes -= size
            removed = True
        if removed and self._index.stat().st_size > 1024 * (self._keep + 100):
            alive = {identifier for identifier, _ in self._stored}
            draft = self._index.with_suffix(".new")
            draft.write_bytes(
                b"".join(
                    orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
                    for entry in _entries(self.folder)
                    if entry.id in alive
                )
            )
            draft.replace(self._index)


def list_mails(folder: Path, limit: int | None = None) -> list[StoredMail]:
    """Return the mails of a mailbox or a Maildir, newest first, at most `limit`; an empty list when there is none yet.

    Each mail listed is opened for its subject: about 0.1 ms.
    """
    listing = _maildir(folder) if _is_maildir(folder) else _mailbox(folder)
    return list(itertools.islice(listing, limit))


def read_mail(folder: Path, identifier: str) -> tuple[StoredMail, bytes]:
    """Return one mail and its bytes. Raises KeyError when there is no such mail (any more)."""
    listing = _maildir(folder, identifier) if _is_maildir(folder) else _mailbox(folder, identifier)
    for mail in listing:
        with contextlib.suppress(FileNotFoundError):
            return mail, mail.path.read_bytes()
    raise KeyError(identifier)


def _is_maildir(folder: Path) -> bool:
    return (folder / "new").is_dir()


def _mailbox(folder: Path, only: str | None = None) -> Iterator[StoredMail]:
    for entry in reversed(_entries(folder)):
        if only is not None and entry.id != only:
            continue
        path = folder / f"{entry.id}.eml"
        with contextlib.suppress(FileNotFoundError):
            yield StoredMail(**asdict(entry), subject=_text(_header(path)["subject"]), path=path)


def _maildir(folder: Path, only: str | None = None) -> Iterator[StoredMail]:
    found: list[tuple[int, str, Path]] = []
    for path in itertools.chain((folder / "new").iterdir(), (folder / "cur").glob("*")):
        identifier = path.name.partition(":")[0]
        if only is None or identifier == only:
            with contextlib.suppress(FileNotFoundError):
                found.append((path.stat().st_mtime_ns, identifier, path))
    for when, identifier, path in sorted(found, reverse=True):
        with contextlib.suppress(FileNotFoundError):
            header = _header(path)
            yield StoredMail(
                id=identifier,
                time=when / 1e9,
                sender=email.utils.parseaddr(_text(header["return-path"]))[1],
                recipients=[_text(value) for value in header.get_all("delivered-to", [])],
                size=path.stat().st_size,
                message_id=_text(header["message-id"]),
                subject=_text(header["subject"]),
                path=path,
            )


def _header(path: Path) -> email.message.Message:
    with path.open("rb") as file:
        return email.parser.BytesHeaderParser(policy=email.policy.compat32).parsebytes(file.read(_HEADER_BYTES))


def _text(value: object) -> str:
    if value is None:
        return ""
    try:
        return str(email.header.make_header(email.header.decode_header(str(value)))).strip()
    except (LookupError, ValueError):
        # An unknown charset or broken base64 in the header: better the raw form than no list.
        return str(value).strip()


def _entry(identifier: str, arrival: Arrival) -> _Entry:
    return _Entry(identifier, arrival.time, arrival.sender, arrival.recipients, arrival.size, arrival.message_id)


def _entries(folder: Path) -> list[_Entry]:
    try:
        lines = (folder / "index.jsonl").read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    # A half line stands at the end after a crash in mid-write; its mail is not in the mailbox then.
    return [_Entry(**orjson.loads(line)) for line in lines if line.endswith(b"}\n")]
