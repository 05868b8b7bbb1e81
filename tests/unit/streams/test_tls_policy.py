"""Which policy holds where several speak."""

import pytest

from depesche.streams.mail.dane import Dane, TLSARecord
from depesche.streams.mail.sts import StsPolicy
from depesche.streams.mail.tls_policy import Asked, required

HOST, DOMAIN = "mx.example.org", "example.org"
GOOD = Dane(HOST, (TLSARecord(3, 1, 1, bytes(32)),))
UNUSABLE = Dane(HOST, (TLSARecord(1, 1, 1, bytes(32)),))
FAILED = Dane(HOST, failed=True)
ENFORCE, TESTING, NONE = (StsPolicy(mode, ("*.example.org",), 86400) for mode in ("enforce", "testing", "none"))
STRANGE = StsPolicy("enforce", ("mx.example.net",), 86400)


@pytest.mark.parametrize("asked", ["may", "must"])
@pytest.mark.parametrize(
    ("dane", "sts", "name", "encrypt"),
    [
        (None, None, "", None),
        (None, NONE, "", None),
        (None, TESTING, "sts-testing", None),
        (None, ENFORCE, "sts-enforce", True),
        (GOOD, ENFORCE, "dane", True),
        (GOOD, STRANGE, "dane", True),
        (GOOD, None, "dane", True),
        (UNUSABLE, None, "dane-unusable", True),
        (UNUSABLE, TESTING, "dane-unusable", True),
        (UNUSABLE, ENFORCE, "sts-enforce", True),
        (FAILED, ENFORCE, "dane-failed", True),
        (FAILED, None, "dane-failed", True),
    ],
)
def test_dane_goes_first_then_mta_sts_then_the_sender(
    asked: Asked, dane: Dane | None, sts: StsPolicy | None, name: str, encrypt: bool | None
) -> None:
    found = required(HOST, DOMAIN, asked, dane, sts)
    assert found.name == (name or asked)
    assert found.encrypt is ((asked == "must") if encrypt is None else encrypt)
    assert found.authority is (name in ("sts-enforce", "sts-testing"))
    assert found.lenient is (name == "sts-testing")
    assert bool(found.records) is (name == "dane")
    assert bool(found.refusal) is (name == "dane-failed")


def test_a_host_that_the_policy_does_not_name_is_refused_or_only_counted() -> None:
    refused = required(HOST, DOMAIN, "may", None, STRANGE)
    counted = required(HOST, DOMAIN, "may", None, StsPolicy("testing", ("mx.example.net",), 86400))
    assert (bool(refused.refusal), refused.result) == (True, "validation-failure")
    assert (counted.refusal, counted.result, counted.authority) == ("", "validation-failure", False)
