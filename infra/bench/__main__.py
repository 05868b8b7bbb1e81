"""``python -m depesche.infra.bench`` is ``make bench``."""

from __future__ import annotations

import sys

from depesche.infra.bench.run import main

if __name__ == "__main__":
    sys.exit(main())
