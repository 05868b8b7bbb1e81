"""Nine scripted providers: what five good ones get alone, and what they get while four difficult ones are being served.

One has a quota of twenty mails a minute, one greylists, one has us on its list, one is a tarpit; time is not shortened. The
product is alone before and after, so that a machine that gets slower meanwhile shows. What a difficult provider still has waiting
is dropped by an operator's order in between.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from depesche.infra.bench.load import Target
from depesche.infra.bench.mails import SIZES
from depesche.infra.bench.product import FINE, Product
from depesche.infra.bench.rounds import Run, Sink, hand_in, measure, median, quantile, settled

SMALL = ("10KB", SIZES["10KB"])
FINE_RATE = 20.0
"""Mails a second to the good ones together."""
QUOTA = "quota.test"
DIFFICULT = (
    (Target("q-", (QUOTA,)), 1.0),
    (Target("greylist-", ("small.test",)), 1.0),
    (Target("l-", ("listed.test",)), 1.0),
    (Target("tarpit-", ("needtls.test",)), 0.25),
)
"""Whom each difficult provider gets mail for, and how many mails a second: the one with a quota three times what it takes."""


@dataclass
class Isps:
    """What the good ones got alone (twice) and beside the others, decisions about the quota, rates of the difficult ones."""

    before: Run
    beside: Run
    after: Run
    quota_per_minute: list[float | None]
    difficult: list[dict[str, int | str]]

    @property
    def ratios(self) -> tuple[float, float]:
        """Median and p90 of the time from yes to arrival, beside the others as against alone."""
        alone, beside = self.before.arrival_ms + self.after.arrival_ms, self.beside.arrival_ms
        return round(median(beside) / median(alone), 3), round(quantile(beside, 0.9) / quantile(alone, 0.9), 3)


async def isps(product: Product, sink: Sink, seconds: int, take: Callable[[int], int]) -> Isps:
    """Run alone, beside, and alone again.

    Args:
        product, sink: as they run.
        seconds: how long it is alone each time; twice as long beside the others.
        take: gives the first of so many fresh numbers of mails.
    """

    async def fine(seconds: int) -> Run:
        count, target = int(FINE_RATE * seconds), Target("r", FINE)
        return await measure("depesche", product, sink, SMALL, count, take(count), rate=FINE_RATE, target=target)

    await settled(product)
    await fine(10)  # Names are resolved and connections opened.
    before = await fine(seconds)
    async with asyncio.TaskGroup() as group:
        for target, rate in DIFFICULT:
            count = int(rate * 2 * seconds)
            group.create_task(hand_in(product, SMALL[1], count, take(count), rate=rate, connections=2, target=target))
        beside = group.create_task(fine(2 * seconds))
    told = await _rows(product, "pace", "history")
    whom = {domain for target, _ in DIFFICULT for domain in target.domains}
    rates = [row for row in await _rows(product, "rates", "--window", "1d") if row["provider"] in whom]
    for target, _ in DIFFICULT:
        await product.command("control", "drop", "--domain", *target.domains, "--for", "1h", "--yes")
    await settled(product)
    after = await fine(seconds)
    quota = [one["per_minute"] for one in told if one["provider"] == QUOTA]
    return Isps(before, beside.result(), after, quota, rates)


async def _rows(product: Product, *command: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (await product.command(*command, "--json")).splitlines()]
