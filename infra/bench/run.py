"""``make bench``: Depesche and Postfix + OpenDKIM + ClamAV, in turns, the same mails to the same sink; a table and JSON.

``python -m depesche.infra.bench.run --help`` lists the shorter and longer forms. See README.md beside this file for what is
counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from depesche.infra.bench import peer as peers
from depesche.infra.bench.isps import isps
from depesche.infra.bench.load import Target
from depesche.infra.bench.mails import SIZES
from depesche.infra.bench.peer import Peer
from depesche.infra.bench.product import DEAD, Product
from depesche.infra.bench.report import show
from depesche.infra.bench.rounds import Run, Sink, Subject, hand_in, measure, settled
from depesche.schemas.errors import SetupError

console = Console(stderr=True)
TARGET_RATE = 41.7


class Numbers:
    """Numbers of mails, each used once, so that the sink can tell copies."""

    def __init__(self) -> None:
        self._next = 0

    def take(self, count: int) -> int:
        """The first of ``count`` fresh numbers."""
        first, self._next = self._next, self._next + count
        return first


async def throughput(args: argparse.Namespace, subjects: dict[str, Subject], sink: Sink, numbers: Numbers) -> list[Run]:
    """Rounds in turns: product, peer, product, peer; so a machine that gets slower slows both."""
    runs: list[Run] = []
    for size in args.sizes:
        amount = SIZES[size]
        for turn in range(args.rounds):
            for name, subject in subjects.items():
                count = args.count if size == "10KB" else args.count // 4
                count = count if name == "depesche" else count // 3
                run = await measure(name, subject, sink, (size, amount), count, numbers.take(count))
                told = f"{run.rate}/s, {run.cpu_sum} ms CPU per message, {run.arrived} of {run.messages} arrived"
                console.print(f"{size} round {turn + 1} {name}: {told}")
                runs.append(run)
    return runs


async def latency(
    args: argparse.Namespace, subjects: dict[str, Subject], sink: Sink, numbers: Numbers
) -> dict[str, list[Run]]:
    """Accept and arrival times at 50 mails a second, and at 4 a second for the idle system."""
    found: dict[str, list[Run]] = {}
    for label, rate, seconds in (("50/s", 50.0, args.latency_seconds), ("idle", 4.0, args.latency_seconds)):
        for name, subject in subjects.items():
            count = int(rate * seconds)
            run = await measure(name, subject, sink, ("10KB", SIZES["10KB"]), count, numbers.take(count), rate=rate)
            found.setdefault(label, []).append(run)
            console.print(f"latency at {label}: {name} done, {run.arrived}/{run.messages}")
    return found


async def sustained(minutes: float, product: Product, sink: Sink, numbers: Numbers) -> dict[str, object]:
    """200 KB at the contract's 41.7 units a second; the backlog (accepted, not arrived) sampled every five seconds."""
    count = int(TARGET_RATE * 60 * minutes)
    task = asyncio.create_task(
        measure(
            "depesche",
            product,
            sink,
            ("200KB", SIZES["200KB"]),
            count,
            numbers.take(count),
            rate=TARGET_RATE,
            connections=40,
        )
    )
    began, backlog = time.monotonic(), []
    await asyncio.sleep(10)
    while not task.done():
        arrived = (await sink.figures())["count"]
        backlog.append(round(TARGET_RATE * (time.monotonic() - began)) - arrived)
        await asyncio.sleep(5)
    run = await task
    return {"run": run, "minutes": minutes, "backlog": backlog}


async def backlogged(args: argparse.Namespace, product: Product, sink: Sink, numbers: Numbers) -> dict[str, object]:
    """The cost per delivered unit without and with ``--backlog`` units that wait for a dead provider."""
    small = ("10KB", SIZES["10KB"])
    before = await measure("depesche", product, sink, small, args.count, numbers.take(args.count))
    await hand_in(product, 1_000, args.backlog, numbers.take(args.backlog), target=Target("r", (DEAD,)))
    console.print(
        f"{args.backlog} units for a dead provider are taken; they settle on the ladder before the rest is measured"
    )
    await settled(product)
    after = await measure("depesche", product, sink, small, args.count, numbers.take(args.count))
    ratio = round(after.cpu_sum / before.cpu_sum, 3)
    console.print(f"cost per delivered unit: {before.cpu_sum} ms alone, {after.cpu_sum} ms with the backlog ({ratio})")
    return {"units": args.backlog, "before": before, "after": after, "ratio": ratio}


async def bench(args: argparse.Namespace) -> dict[str, object]:
    """Everything, on directories and processes of its own."""
    if args.directory is not None:
        args.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="depesche-bench-", dir=args.directory) as name:
        home = Path(name)
        home.chmod(0o755)
        sink = Sink("127.0.0.1", args.port + 25, args.port + 26)
        product = Product(home / "product", args.port - 19000, args.port + 1, (sink.host, sink.port), args.jars)
        subjects: dict[str, Subject] = {"depesche": product}
        await sink.start()
        try:
            await product.start()
            if not args.alone:
                peer = Peer(home / "peer", args.port + 40, (sink.host, sink.port))
                subjects["peer"] = peer
                await peer.start()
            return await _measured(args, subjects, product, sink)
        finally:
            await product.stop()
            if "peer" in subjects:
                await peer.stop()
            sink.stop()


async def _measured(
    args: argparse.Namespace, subjects: dict[str, Subject], product: Product, sink: Sink
) -> dict[str, object]:
    numbers = Numbers()
    small = ("10KB", SIZES["10KB"])
    console.print(f"warming up with {args.warm_up} mails (the JVM needs them)")
    for name, subject in subjects.items():
        count = args.warm_up if name == "depesche" else min(args.warm_up, 1000)
        if count:
            await measure(name, subject, sink, small, count, numbers.take(count))
    result: dict[str, object] = {
        "commit": _commit(),
        "cores": os.cpu_count(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    result["throughput"] = await throughput(args, subjects, sink, numbers)
    result["latency"] = await latency(args, subjects, sink, numbers) if args.latency_seconds else {}
    if args.backlog:
        result["backlog"] = await backlogged(args, product, sink, numbers)
    if args.isps:
        result["isps"] = await isps(product, sink, args.isps, numbers.take)
    if args.sustain:
        result["sustained"] = await sustained(args.sustain, product, sink, numbers)
    if not args.no_audit:
        result["audit"] = json.loads(await product.audit())
    return result


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--count", type=int, default=12_000, help="10 KB mails per round of the product; the peer gets a third"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds per size; 0: none")
    parser.add_argument(
        "--sizes", nargs="+", choices=list(SIZES), default=list(SIZES), help="of which mails; default: all"
    )
    parser.add_argument("--warm-up", type=int, default=20_000, help="mails before anything is measured")
    parser.add_argument("--latency-seconds", type=int, default=20, help="length of each latency run; 0: none")
    parser.add_argument("--sustain", type=float, default=0, help="minutes of 200 KB at 41.7/s; 0: none")
    parser.add_argument(
        "--backlog",
        type=int,
        nargs="?",
        const=5_000,
        default=0,
        help="units that wait for a dead provider while the cost elsewhere is measured; without a number 5,000",
    )
    parser.add_argument(
        "--isps",
        type=int,
        nargs="?",
        const=120,
        default=0,
        metavar="SECONDS",
        help="what five good providers get alone and beside four difficult ones, each time so long; without a number 120",
    )
    parser.add_argument("--alone", action="store_true", help="without the peer")
    parser.add_argument("--no-audit", action="store_true", help="without depesche audit at the end")
    parser.add_argument("--port", type=int, default=32000, help="first port; a hundred above it are used")
    parser.add_argument(
        "--directory",
        type=Path,
        default=None,
        help="where homes and queues lie; default: the system's temporary directory",
    )
    parser.add_argument(
        "--jars", type=Path, default=None, help="directory with the broker's jars, to spare the download"
    )
    parser.add_argument(
        "--json", type=Path, default=None, help="where to write the figures; default: bench-results/COMMIT.json"
    )
    return parser.parse_args(argv)


def main() -> int:
    """Run, write JSON, print the table; 1 if mail was lost or the peer cannot run."""
    args = arguments(sys.argv[1:])
    problem = None if args.alone else peers.missing()
    if problem:
        console.print(f"The peer cannot run here: {problem}\nOr measure without it: --alone")
        return 1
    try:
        result = asyncio.run(bench(args))
    except SetupError as fault:
        console.print(str(fault) if fault.fix in str(fault) else f"{fault}. {fault.fix}")
        return 1
    target = args.json or Path("bench-results") / f"{result['commit']}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, default=asdict, indent=1))
    return show(result, console, target)


if __name__ == "__main__":
    sys.exit(main())
