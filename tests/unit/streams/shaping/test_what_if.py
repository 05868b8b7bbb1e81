"""What a changed file would have decided about past answers."""

from depesche.schemas.settings import DeliverSettings
from depesche.streams.mail.reply import Answered
from depesche.streams.mail.shaping.book import ShapingBook, shipped
from depesche.streams.mail.shaping.reading import read
from depesche.streams.mail.shaping.what_if import Change, WhatIf

SETTINGS = DeliverSettings.model_validate({})
CHANGED = """
[[provider."hoster.example".answer]]
name = "full-for-now"
code = 552
action = ["defer", "suspend"]
for = "1h"
"""


def test_only_what_would_be_decided_differently_is_counted_and_shown_without_addresses() -> None:
    found = WhatIf(ShapingBook(SETTINGS), ShapingBook(SETTINGS, read(CHANGED, "new.toml"), shipped()))
    for number in range(5):
        full = Answered("rcpt", 552, "5.2.2", f"<ada{number}@hoster.example> mailbox full")
        found.consider("hoster.example", full)
        found.consider("other.example", full)
        found.consider("hoster.example", Answered("rcpt", 550, "5.1.1", "no such user"))
    change = Change("hoster.example", "mailbox_full", "bounced", "mailbox_full", "deferred, suspend")
    assert (found.seen, dict(found.counts)) == (15, {change: 5})
    assert found.samples[change] == ["552 5.2.2 <> mailbox full"]


def test_the_same_file_decides_the_same() -> None:
    found = WhatIf(ShapingBook(SETTINGS), ShapingBook(SETTINGS, {}, shipped()))
    found.consider("yahoo", Answered("mail", 421, "4.7.0", "[TSS04] try later"))
    assert not found.counts
