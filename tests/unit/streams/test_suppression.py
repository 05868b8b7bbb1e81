"""Suppression as a fold: what counts, for how long, and that the same facts give the same record in whatever way they come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depesche.schemas.codec import decode, encode
from depesche.schemas.records import (
    AttemptDetail,
    EventType,
    MailEvent,
    ReturnedDetail,
    Suppression,
    SuppressionAction,
    SuppressionReason,
    SuppressionRequest,
    SuppressionState,
)
from depesche.schemas.settings import SuppressionSettings
from depesche.streams.mail.suppression import (
    DAY_MS,
    FORGET_MS,
    after_outcome,
    after_request,
    concluded,
    forgettable,
)
from depesche.streams.mail.suppression_facts import Policy

KEY = "ab" * 16
T0 = 1_800_000_000_000


def policy(**given: Any) -> Policy:
    return Policy.of(SuppressionSettings.model_validate(given))


def outcome(number: int, type_: EventType = EventType.BOUNCED, at: int = T0, **answer: Any) -> MailEvent:
    """An outcome: bounced as ``recipient_unknown`` unless told otherwise."""
    values = {"reply_class": "recipient_unknown", "kind": "hard", "code": 550, "enhanced_code": "5.1.1"} | answer
    if type_ in (EventType.COMPLAINED, EventType.UNSUBSCRIBED) or "suppress" in answer:
        detail: Any = ReturnedDetail(source="dsn", place="mail.returns/0/1", reporter="mx.example", **values)
    else:
        blank = {"remote_ip": "", "source_ip": "", "tls": "", "step": "rcpt", "queue_id": "", "millis": 1}
        detail = AttemptDetail(host="mx.example", **blank, **values)
    return MailEvent(
        event_id=f"event-{number}",
        type=type_,
        unit_id=f"unit.{number}",
        job_id="unit",
        tenant="10001",
        account="a",
        recipient_key=KEY,
        occurred_at=at,
        sequence=101,
        attempt=1,
        worker="w",
        key_id="10001/20270115",
        sealed_personal=b"sealed-%d" % number,
        detail=detail,
    )


def request(number: int, action: SuppressionAction, at: int, **more: Any) -> SuppressionRequest:
    return SuppressionRequest(
        request_id=f"request-{number}", action=action, tenant="10001", recipient_key=KEY, at=at, by="me", **more
    )


class Story:
    """One recipient, told fact by fact."""

    def __init__(self, **given: Any) -> None:
        self.policy = policy(**given)
        self.held: Suppression | None = None
        self._offsets = {"outcomes": 0, "requests": 0}

    def outcome(self, type_: EventType = EventType.BOUNCED, at: int = T0, **answer: Any) -> Suppression | None:
        self._offsets["outcomes"] += 1
        event = outcome(self._offsets["outcomes"], type_, at, **answer)
        return self._kept(after_outcome(self.held, event, self.policy, 1, self._offsets["outcomes"]))

    def request(self, action: SuppressionAction, at: int, **more: Any) -> Suppression | None:
        self._offsets["requests"] += 1
        asked = request(self._offsets["requests"], action, at, **more)
        return self._kept(after_request(self.held, asked, self.policy, 1, self._offsets["requests"]))

    def blocked(self, at: int) -> Suppression:
        assert self.held is not None
        after = self.request(SuppressionAction.BLOCKED, at, ground=self.held.ground, unit_id="u.1")
        assert after is not None
        return after

    def _kept(self, after: Suppression | None) -> Suppression | None:
        self.held = after or self.held
        return after


@pytest.mark.parametrize(
    ("reply_class", "kind", "reason", "days"),
    [
        ("recipient_unknown", "hard", SuppressionReason.BOUNCED, 45),
        ("domain_unknown", "hard", SuppressionReason.BOUNCED, 45),
        ("a_class_of_tomorrow", "hard", SuppressionReason.BOUNCED, 45),
        ("recipient_disabled", "soft", SuppressionReason.BOUNCED, 7),
        ("no_mail_host", "soft", SuppressionReason.BOUNCED, 7),
        ("mailbox_full", "soft", SuppressionReason.TEMPORARY, 1),
    ],
)
def test_a_bounce_suppresses_for_the_days_of_its_class(
    reply_class: str, kind: str, reason: SuppressionReason, days: int
) -> None:
    found = Story().outcome(reply_class=reply_class, kind=kind)
    assert found is not None
    assert (found.state, found.reason, found.reply_class) == (SuppressionState.ACTIVE, reason, reply_class)
    assert (found.since, found.until) == (T0, T0 + days * DAY_MS)
    [ground] = found.grounds
    assert [one.event_id for one in ground.evidence] == ["event-1"]


@pytest.mark.parametrize("code", [550, 554])
@pytest.mark.parametrize(
    ("reply_class", "kind"),
    [
        ("reputation", "block"),
        ("policy", "block"),
        ("auth_failed", "block"),
        ("recipient_unknown", "block"),
        ("content_refused", "soft"),
        ("unclassified", "soft"),
        ("message_too_large", "soft"),
    ],
)
def test_a_5xx_about_the_sender_or_the_mail_suppresses_nobody(reply_class: str, kind: str, code: int) -> None:
    assert Story().outcome(reply_class=reply_class, kind=kind, code=code) is None


@pytest.mark.parametrize("type_", [EventType.DELIVERED, EventType.DEFERRED, EventType.OPENED, EventType.FAILED])
def test_what_is_no_refusal_for_good_suppresses_nobody(type_: EventType) -> None:
    assert Story().outcome(type_) is None


def test_a_mailbox_that_stayed_full_until_the_mail_expired_is_left_alone_for_a_day() -> None:
    found = Story().outcome(EventType.EXPIRED, reply_class="mailbox_full", kind="soft", code=452)
    assert found is not None
    assert found.until == T0 + DAY_MS


def test_a_mailbox_may_have_to_be_unknown_three_times() -> None:
    story = Story(hard_bounces=3)
    first = story.outcome(at=T0)
    assert first is not None
    assert (first.state, first.hard_bounces) == (SuppressionState.PENDING, 1)
    story.outcome(at=T0 + DAY_MS)
    third = story.outcome(at=T0 + 2 * DAY_MS)
    assert third is not None
    assert (third.state, third.hard_bounces) == (SuppressionState.ACTIVE, 3)
    assert third.until == T0 + 47 * DAY_MS


def test_hard_bounces_far_apart_are_not_added_up() -> None:
    story = Story(hard_bounces=2)
    story.outcome(at=T0)
    later = story.outcome(at=T0 + 46 * DAY_MS)
    assert later is not None
    assert (later.state, later.hard_bounces) == (SuppressionState.PENDING, 1)


def test_vague_hard_bounces_need_three_whatever_the_setting_says() -> None:
    story = Story(hard_bounces=1)
    for number in range(2):
        found = story.outcome(at=T0 + number, suppress=False)
        assert found is not None
        assert found.state is SuppressionState.PENDING
    found = story.outcome(at=T0 + 2, suppress=False)
    assert found is not None
    assert found.state is SuppressionState.ACTIVE


@pytest.mark.parametrize(
    ("rule", "state"),
    [
        ("", "active"),
        ("enhanced:5.1.1", "active"),
        ("words:no-such-user", "active"),
        ("step:dns", "active"),
        ("enhanced:5.1.0", "pending"),
        ("words:mailbox-unavailable-in-the-words-of-the-standard", "pending"),
        ("code:550", "pending"),
        ("none", "pending"),
    ],
)
def test_a_refusal_counts_at_once_only_if_it_is_clear(rule: str, state: str) -> None:
    found = Story().outcome(rule=rule)
    assert found is not None
    assert found.state == state


def test_a_blocked_send_renews_the_end_and_is_counted() -> None:
    story = Story()
    story.outcome(reply_class="mailbox_full", kind="soft")
    story.blocked(T0 + DAY_MS // 2)
    renewed = story.blocked(T0 + DAY_MS)
    assert (renewed.until, renewed.blocked, renewed.renewed_at) == (T0 + 2 * DAY_MS, 2, T0 + DAY_MS)
    assert renewed.since == T0


def test_a_renewal_does_not_wake_a_longer_ground_that_has_ended() -> None:
    story = Story()
    story.outcome(at=T0)
    story.outcome(at=T0 + 100 * DAY_MS, reply_class="mailbox_full", kind="soft")
    renewed = story.blocked(T0 + 100 * DAY_MS + 1000)
    assert renewed.until == T0 + 101 * DAY_MS + 1000
    assert renewed.reason is SuppressionReason.TEMPORARY


@pytest.mark.parametrize("type_", [EventType.COMPLAINED, EventType.UNSUBSCRIBED])
def test_a_complaint_and_an_unsubscription_last_until_lifted(type_: EventType) -> None:
    story = Story()
    found = story.outcome(type_, kind="complaint", reply_class="complaint", code=0)
    assert found is not None
    assert (found.state, found.until) == (SuppressionState.ACTIVE, None)
    assert not forgettable(found, T0 + 10_000 * DAY_MS)
    lifted = story.request(SuppressionAction.LIFT, T0 + DAY_MS, note="asked us to")
    assert lifted is not None
    assert (lifted.state, lifted.lifted_by, lifted.lifted_note) == (SuppressionState.LIFTED, "me", "asked us to")


def test_a_report_about_authentication_is_no_complaint_of_a_recipient() -> None:
    assert Story().outcome(EventType.COMPLAINED, kind="complaint", reply_class="auth_report") is None


def test_after_lifting_only_what_follows_counts() -> None:
    story = Story(hard_bounces=2)
    story.outcome(at=T0)
    story.request(SuppressionAction.LIFT, T0 + 10)
    found = story.outcome(at=T0 + 20)
    assert found is not None
    assert (found.state, found.hard_bounces) == (SuppressionState.PENDING, 1)
    found = story.outcome(at=T0 + 30)
    assert found is not None
    assert found.state is SuppressionState.ACTIVE
    assert found.since == T0 + 20


def test_the_strictest_ground_decides_and_all_are_kept() -> None:
    story = Story()
    story.outcome(reply_class="mailbox_full", kind="soft", at=T0 + 5)
    story.outcome(at=T0)
    found = story.request(SuppressionAction.ADD, T0 + 7, reason=SuppressionReason.MANUAL, days=0, note="a letter")
    assert found is not None
    assert (found.reason, found.until, len(found.grounds)) == (SuppressionReason.MANUAL, None, 3)


def test_only_the_youngest_fact_keeps_what_is_personal() -> None:
    story = Story()
    for number in range(5):
        story.outcome(at=T0 + number)
    assert story.held is not None
    [ground] = story.held.grounds
    assert [one.event_id for one in ground.evidence] == ["event-3", "event-4", "event-5"]
    assert [one.sealed_personal for one in ground.evidence] == [b"", b"", b"sealed-5"]
    assert story.held.since == T0


def test_what_ended_long_ago_may_be_forgotten_and_what_counts_may_not() -> None:
    story = Story(hard_bounces=2)
    pending = story.outcome(at=T0)
    assert pending is not None
    assert not forgettable(pending, T0 + 45 * DAY_MS)
    assert forgettable(pending, T0 + 45 * DAY_MS + FORGET_MS)


def test_an_unknown_class_in_the_settings_is_named() -> None:
    with pytest.raises(ValueError, match="mailbox_ful"):
        policy(lifetimes=("mailbox_ful=1",))
    with pytest.raises(ValueError, match="reputation"):
        policy(lifetimes=("reputation=7",))
    with pytest.raises(ValueError, match="45 days"):
        policy(lifetimes=("mailbox_full=46",))


# Whatever happens.

CLASSES = (
    ("recipient_unknown", "hard"),
    ("mailbox_full", "soft"),
    ("recipient_refused", "soft"),
    ("reputation", "block"),
    ("unclassified", "soft"),
)
TIMES = st.integers(0, 300).map(lambda hours: T0 + hours * DAY_MS // 3)
OUTCOMES = st.builds(
    lambda type_, at, answer, suppress: (type_, at, dict(zip(("reply_class", "kind"), answer, strict=True)) | suppress),
    st.sampled_from((EventType.BOUNCED, EventType.EXPIRED, EventType.COMPLAINED, EventType.DELIVERED)),
    TIMES,
    st.sampled_from(CLASSES),
    st.sampled_from(({}, {"suppress": True}, {"suppress": False})),
)
REQUESTS = st.builds(
    lambda action, at, more: (action, at, more),
    st.sampled_from((SuppressionAction.ADD, SuppressionAction.LIFT, SuppressionAction.BLOCKED)),
    TIMES,
    st.sampled_from(
        (
            {"reason": SuppressionReason.MANUAL, "ground": "outcomes/bounced/45"},
            {"reason": SuppressionReason.MANUAL, "days": 7, "ground": "requests/manual/7"},
            {"reason": SuppressionReason.COMPLAINED, "ground": "outcomes/temporary/1"},
        )
    ),
)
POLICY = policy(hard_bounces=2)


def told(kind: str, number: int, what: Any, held: Suppression | None) -> Suppression | None:
    """One step; the record goes through Avro, as in the table."""
    if kind == "outcomes":
        type_, at, answer = what
        after = after_outcome(held, outcome(number, type_, at, **answer), POLICY, 1, number)
    else:
        action, at, more = what
        after = after_request(held, request(number, action, at, **more), POLICY, 1, number)
    return held if after is None else decode(Suppression, encode(after))


@settings(max_examples=300, deadline=None)
@given(st.lists(OUTCOMES, max_size=8), st.lists(REQUESTS, max_size=6), st.data())
def test_the_order_of_the_two_topics_does_not_matter(
    outcomes: list[Any], requests: list[Any], data: st.DataObject
) -> None:
    steps = [("outcomes", n, what) for n, what in enumerate(outcomes)]
    asked = [("requests", n, what) for n, what in enumerate(requests)]
    mixed, left = [], {"outcomes": list(steps), "requests": list(asked)}
    while any(left.values()):
        source = data.draw(st.sampled_from(sorted(name for name, rest in left.items() if rest)))
        mixed.append(left[source].pop(0))
    one = two = None
    for step in (*steps, *asked):
        one = told(*step, one)
    for step in mixed:
        two = told(*step, two)
    assert one == two


@settings(max_examples=300, deadline=None)
@given(st.lists(OUTCOMES, max_size=8), st.lists(REQUESTS, max_size=6), st.lists(st.integers(0, 13), max_size=4))
def test_a_restart_that_reads_records_again_changes_nothing(
    outcomes: list[Any], requests: list[Any], restarts: list[int]
) -> None:
    steps = [("outcomes", n, what) for n, what in enumerate(outcomes)]
    steps += [("requests", n, what) for n, what in enumerate(requests)]
    straight = disturbed = None
    for step in steps:
        straight = told(*step, straight)
    for done, step in enumerate(steps):
        disturbed = told(*step, disturbed)
        if done in restarts:
            # Killed here; the table is as it is, and everything up to here is read again.
            for again in steps[: done + 1]:
                disturbed = told(*again, disturbed)
    assert straight == disturbed
    assert straight is None or concluded(straight, POLICY) == straight
