"""The settings of the monitor: when a rate is worth an alert, and which blocklists are asked."""

from __future__ import annotations

from pydantic import Field

from depesche.schemas.settings_part import Part


class AlertSettings(Part):
    """When a rate is worth an alert."""

    hard_bounce_limit: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Share of hard bounces among delivered and bounced that begins an alert when passed.",
    )
    complaint_limit: float = Field(
        0.001, gt=0, lt=1, description="Complaints per delivered unit that begin an alert (warn) when passed."
    )
    complaint_limit_high: float = Field(
        0.003, gt=0, lt=1, description="The same for a second alert (high); above it Gmail and Yahoo refuse mail."
    )
    hard_bounce_window_minutes: int = Field(
        60, ge=5, le=1440, description="The sliding window of the hard-bounce rate; it slides by five minutes."
    )
    complaint_window_hours: int = Field(
        24, ge=1, le=48, description="The sliding window of the complaint rate; complaints come hours after the mail."
    )
    least_volume: int = Field(
        500,
        ge=1,
        description="Below so many units in the window (the denominator) no alert begins, and none ends by its rate.",
    )
    least_events: int = Field(3, ge=1, description="Below so many bounces or complaints in the window no alert begins.")
    clear_share: float = Field(
        0.8,
        gt=0,
        le=1,
        description="An alert ends when the rate is below this part of its limit, so that it does not flap.",
    )


class DNSBLSettings(Part):
    """The watch over the own addresses on blocklists (RFC 5782)."""

    zones: tuple[str, ...] = Field(
        ("zen.spamhaus.org", "bl.spamcop.net", "b.barracudacentral.org", "psbl.surriel.com"),
        description="Zones to ask; empty: none, which is so in the sandbox unless set. Some want to know who asks: register, or "
        "use the zone that you were given.",
    )
    servers: tuple[str, ...] = Field(
        (),
        description="Resolvers for these questions, as host or host:port; empty: dns.servers. Large lists do not answer public "
        "resolvers, so it should be one of your own.",
    )
    interval_seconds: float = Field(
        3600, gt=0, description="Time between two rounds over all addresses and zones; it varies by a fifth."
    )
    silent_rounds: int = Field(
        3, ge=1, description="After so many rounds without an answer a list is reported as unusable."
    )
