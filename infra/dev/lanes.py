"""`make test` in three lanes side by side, because real servers keep the tests waiting more than working.

One lane runs the contract tests of doors, store and far sides, and its dots are seen as they come. One runs those that move
mail. The last one checks the code, runs the unit tests and then the stories on the whole stack. What a step of the other lanes
has to say is shown when it has ended. A red check ends all lanes, since nobody wants to wait for the rest.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
CONTRACT = CHECKOUT / "tests" / "contract"
#: The contract tests that move mail: they take as long as all the others together.
MOVING = (
    "test_deliver*.py",
    "test_fall_back.py",
    "test_faust_contract.py",
    "test_hand.py",
    "test_monitor.py",
    "test_pace*.py",
    "test_pools.py",
    "test_prepare*.py",
    "test_queue.py",
    "test_rates_agent.py",
    "test_retry.py",
    "test_returns*.py",
    "test_runner_on_kafka.py",
    "test_scripted_isps.py",
    "test_suppression*.py",
    "test_tls*.py",
    "test_warmup.py",
)
PYTEST = (sys.executable, "-m", "pytest", "-m", "not corpus and not long", "--durations=12", "--durations-min=10")
#: Exit codes of a step that somebody has stopped.
INTERRUPTED = (2, 130, -signal.SIGINT)

Steps = Mapping[str, tuple[str, ...]]


def moving() -> list[str]:
    """The files of the lane that moves mail; a name that fits none is a mistake."""
    found = {name: sorted(CONTRACT.glob(name)) for name in MOVING}
    assert all(found.values()), [name for name, files in found.items() if not files]
    return [str(file.relative_to(CHECKOUT)) for files in found.values() for file in files]


def lanes() -> tuple[Steps, ...]:
    """What each lane does, step by step; the output of the first is seen as it comes."""
    files = moving()
    elsewhere = [f"--ignore={file}" for file in files]
    return (
        {"doors": (*PYTEST, "tests", "--ignore=tests/unit", "--ignore=tests/live", *elsewhere)},
        {"mail": (*PYTEST, *files)},
        {
            "check": ("make", "--no-print-directory", "check"),
            "unit": (*PYTEST, "tests/unit"),
            "live": (*PYTEST, "tests/live"),
        },
    )


class Run:
    """All lanes, and how their steps end."""

    def __init__(self) -> None:
        self.verdicts: dict[str, str] = {}
        self._running: list[subprocess.Popen[bytes]] = []
        self._over = False
        self._lock = threading.Lock()

    def lane(self, steps: Steps, *, seen: bool) -> None:
        """Run the steps of one lane one after the other and note how each ended."""
        for name, command in steps.items():
            begun = time.monotonic()
            with self._lock:
                if self._over:
                    return
                said = None if seen else subprocess.PIPE
                process = subprocess.Popen(
                    command, cwd=CHECKOUT, stdout=said, stderr=None if seen else subprocess.STDOUT
                )
                self._running.append(process)
            output, _ = process.communicate()
            if not seen:
                sys.stdout.write(f"\n--- {name}\n{output.decode('utf-8', 'replace')}")
                sys.stdout.flush()
            self.verdicts[name] = verdict(process.returncode, begun)
            if name == "check" and process.returncode:
                self.end()
            if process.returncode in INTERRUPTED:
                return

    def end(self) -> None:
        """Tell every step to end, and begin no other."""
        with self._lock:
            self._over = True
            for process in self._running:
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)


def verdict(code: int, begun: float) -> str:
    """How a step ended and how long it took."""
    return f"{'ok' if not code else 'FAILED'} ({time.monotonic() - begun:.0f} s)"


def main() -> int:
    """Run all lanes; gives the exit code."""
    run, every = Run(), lanes()
    threads = [
        threading.Thread(target=run.lane, args=(steps,), kwargs={"seen": not n}) for n, steps in enumerate(every)
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        # The terminal has told the steps as well; they clean up after themselves.
        run.end()
        for thread in threads:
            thread.join()
        return 130
    sys.stdout.write("\nmake test: " + ", ".join(f"{name} {how}" for name, how in run.verdicts.items()) + "\n")
    whole = sum(len(steps) for steps in every)
    return int(len(run.verdicts) < whole or any(how.startswith("FAILED") for how in run.verdicts.values()))


if __name__ == "__main__":
    sys.exit(main())
