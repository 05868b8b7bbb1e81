"""The numbers carry the declared names and labels."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest

from depesche.analytics.log import meters


def test_numbers_show_under_their_declared_names() -> None:
    meters.count("mail_submissions_refused_total", interface="test", code="a")
    meters.count("mail_submissions_refused_total", 2, interface="test", code="a")
    meters.observe("mail_accept_seconds", 0.004, interface="test")
    meters.gauge("mail_sink_lag_seconds", 7)
    shown = generate_latest().decode()
    assert 'mail_submissions_refused_total{code="a",interface="test"} 3.0' in shown
    assert 'mail_accept_seconds_bucket{interface="test",le="0.005"} 1.0' in shown
    assert "mail_sink_lag_seconds 7.0" in shown


def test_a_label_that_is_not_declared_is_refused() -> None:
    with pytest.raises(ValueError, match="label"):
        meters.count("mail_sink_rows_total", tenant="10001")
