"""The numbers of this process for Prometheus, under the names, units and labels that ``schemas.metrics`` declares.

An instrument is made when it is first used, so that a process shows only what it does. A name that is not declared is a type
error, and labels never hold a tenant or an address.
"""

from __future__ import annotations

from functools import cache

import prometheus_client as prometheus

from depesche.schemas import metrics

_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.008, 0.012, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@cache
def _counter(name: metrics.Counter) -> prometheus.Counter:
    text, labels = metrics.COUNTERS[name]
    return prometheus.Counter(name, text, labels)


@cache
def _histogram(name: metrics.Histogram) -> prometheus.Histogram:
    text, labels = metrics.HISTOGRAMS[name]
    return prometheus.Histogram(name, text, labels, buckets=_SECONDS)


@cache
def _gauge(name: metrics.Gauge) -> prometheus.Gauge:
    text, labels = metrics.GAUGES[name]
    return prometheus.Gauge(name, text, labels)


def count(name: metrics.Counter, amount: float = 1, **labels: str) -> None:
    """Add to a counter; ``labels`` are exactly the declared ones."""
    found = _counter(name)
    (found.labels(**labels) if labels else found).inc(amount)


def observe(name: metrics.Histogram, seconds: float, **labels: str) -> None:
    """Add a duration to a histogram; ``labels`` are exactly the declared ones."""
    found = _histogram(name)
    (found.labels(**labels) if labels else found).observe(seconds)


def gauge(name: metrics.Gauge, value: float, **labels: str) -> None:
    """Set a gauge; ``labels`` are exactly the declared ones."""
    found = _gauge(name)
    (found.labels(**labels) if labels else found).set(value)
