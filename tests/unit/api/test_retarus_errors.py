"""The vendor's path notation, place by place."""

from __future__ import annotations

import pytest

from depesche.api.rest.retarus_errors import path_of


@pytest.mark.parametrize(
    ("location", "path"),
    [
        (("subject", "content"), "subject.content"),
        (("recipients",), "recipients.recipient"),
        (("recipients", 3), "recipients.recipient"),
        (("recipients", 0, "mail", "to", 12, "email"), "recipients.recipient.email.to.12"),
        (("recipients", 0, "mail", "cc", 0), "recipients.recipient.email.cc.0"),
        (("recipients", 0, "mail", "replyTo", "email"), "recipients.recipient.email.replyTo"),
        (("recipients", 0, "mail", "xHeaders", "x-a"), "recipients.recipient.mail.xHeaders"),
        (("recipients", 0, "reference"), "recipients.recipient.reference"),
        (("attachments",), "attachments"),
        (("attachments", 4, "contentId"), "attachments.attachment.contentId"),
        (("mail", "from", "email"), "mail.from"),
        (("notification", "endPoint", "authentication", "user"), "notification.endPoint.authentication.user"),
        (("job", "a\nb"), "job.ab"),
    ],
)
def test_a_place_is_written_as_the_vendor_writes_it(location: tuple[str | int, ...], path: str) -> None:
    assert path_of(location) == path
