"""`make test` in two lanes side by side, because real servers keep the tests waiting more than working.

One lane runs everything that starts servers of its own, and its dots are seen as they come. The other checks the code, runs the
unit tests and then the stories on the whole stack; what each of these steps has to say is shown when it has ended. A red check
ends both lanes, since nobody wants to wait for the rest.
"""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PYTEST = (sys.executable, "-m", "pytest", "-m", "not corpus and not long", "--durations=12", "--durations-min=10")
SERVERS = (*PYTEST, "tests", "--ignore=tests/unit", "--ignore=tests/live")
OTHERS = {
    "check": ("make", "--no-print-directory", "check"),
    "unit": (*PYTEST, "tests/unit"),
    "live": (*PYTEST, "tests/live"),
}
#: Exit codes of a step that somebody has stopped.
INTERRUPTED = (2, 130, -signal.SIGINT)


def others(verdicts: dict[str, str], servers: "subprocess.Popen[bytes]") -> None:
    """Run the steps of the second lane one after the other and note how each ended."""
    for name, command in OTHERS.items():
        begun = time.monotonic()
        done = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        sys.stdout.write(f"\n--- {name}\n{done.stdout.decode('utf-8', 'replace')}")
        sys.stdout.flush()
        verdicts[name] = verdict(done.returncode, begun)
        if name == "check" and done.returncode:
            servers.send_signal(signal.SIGINT)
        if (name == "check" and done.returncode) or done.returncode in INTERRUPTED:
            return


def verdict(code: int, begun: float) -> str:
    """How a step ended and how long it took."""
    return f"{'ok' if not code else 'FAILED'} ({time.monotonic() - begun:.0f} s)"


def main() -> int:
    """Run both lanes; gives the exit code."""
    verdicts: dict[str, str] = {}
    begun = time.monotonic()
    servers = subprocess.Popen(SERVERS, cwd=CHECKOUT)
    lane = threading.Thread(target=others, args=(verdicts, servers))
    lane.start()
    try:
        verdicts["contract"] = verdict(servers.wait(), begun)
        lane.join()
    except KeyboardInterrupt:
        # The terminal has told the others as well; they clean up after themselves.
        servers.wait()
        lane.join()
        return 130
    sys.stdout.write("\nmake test: " + ", ".join(f"{name} {how}" for name, how in verdicts.items()) + "\n")
    return int(len(verdicts) < len(OTHERS) + 1 or any(how.startswith("FAILED") for how in verdicts.values()))


if __name__ == "__main__":
    sys.exit(main())
