"""What the archive acknowledged is readable after ``kill -9`` of the writer, again and again, with several writers at once."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from depesche.analytics.archive import segments
from depesche.analytics.archive.disk import finish_abandoned
from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.archive.reader import ArchiveReader
from depesche.schemas.records import ArchiveRef

# The child acknowledges by a write(2) of one line, which survives its death as the reply to a client would.
CHILD = """
import asyncio, hashlib, json, os, random, sys
from pathlib import Path
from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.archive.writer import ArchiveWriter
from depesche.schemas.settings import ArchiveSettings

home = Path(sys.argv[1])
chance = random.Random(int(sys.argv[2]))
out = os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND)

async def customer(writer):
    while True:
        contents = [chance.randbytes(chance.choice([0, 10, 1000, 40_000])) for _ in range(chance.randint(1, 3))]
        refs = await writer.put("10001", contents)
        lines = [json.dumps([r.to_avro(), hashlib.sha256(c).hexdigest()]) for r, c in zip(refs, contents)]
        os.write(out, ("\\n".join(lines) + "\\n").encode())

async def main():
    settings = ArchiveSettings.model_validate({"segment_bytes": 1 << 20})
    writer = ArchiveWriter(home / "archive", Keyring.open(home / "keys"), "door", settings)
    await writer.start()
    await asyncio.gather(*(customer(writer) for _ in range(8)))

asyncio.run(main())
"""


def _acknowledged(logs: list[Path]) -> list[tuple[ArchiveRef, str]]:
    found = []
    for log in logs:
        # The last line may be half written: that caller never heard its yes.
        for line in log.read_text().split("\n")[:-1]:
            ref, digest = json.loads(line)
            found.append((ArchiveRef.from_avro(ref), digest))
    return found


def test_everything_acknowledged_before_kill_9_can_be_read_and_the_torn_rest_is_cleared(tmp_path: Path) -> None:
    chance = random.Random(20261122)
    logs: list[Path] = []
    for turn in range(3):
        processes = []
        for twin in range(2):
            logs.append(tmp_path / f"acknowledged-{turn}-{twin}")
            logs[-1].touch()
            command = [sys.executable, "-c", CHILD, str(tmp_path), str(turn * 2 + twin), str(logs[-1])]
            processes.append(subprocess.Popen(command))
        deadline = time.monotonic() + 60
        while any(log.stat().st_size < 50_000 for log in logs[-2:]) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(chance.random() / 10)
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait(30) == -signal.SIGKILL
    acknowledged = _acknowledged(logs)
    assert len(acknowledged) > 1000
    keyring = Keyring.open(tmp_path / "keys")
    for prepared in (False, True):
        if prepared:
            finish_abandoned(tmp_path / "archive")
        reader = ArchiveReader(tmp_path / "archive", keyring)
        for ref, digest in acknowledged:
            assert hashlib.sha256(reader.get(ref)).hexdigest() == digest
        entries = list(reader.entries())
        assert len(entries) == len(set(entries))
        assert {ref for ref, _ in acknowledged} <= set(entries)
        for ref in entries:
            assert len(reader.get(ref)) == ref.size, "an entry that is listed is whole"
        reader.close()
    for name in segments.segment_names(tmp_path / "archive"):
        assert segments.path_of(tmp_path / "archive", name).read_bytes().endswith(segments.FOOTER)
