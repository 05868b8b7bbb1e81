"""Reports of TLS sessions, held against the example of RFC 8460, appendix B."""

from dataclasses import replace

from depesche.schemas.codec import decode, encode
from depesche.schemas.records import TLSCount
from depesche.streams.mail.dane import Dane, TLSARecord
from depesche.streams.mail.sts import StsPolicy
from depesche.streams.mail.tls_policy import required
from depesche.streams.mail.tls_report import day_of, report
from depesche.streams.stages.tls_sessions import session_of
from depesche.streams.wire.dns import Host, Hosts

DAY = "2016-04-01"
POLICY = ("version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400")
GOOD = TLSCount(
    day=DAY,
    counter="deliver-a/1",
    domain="company-y.example",
    kind="sts",
    policy=POLICY,
    mx_host=("*.mail.company-y.example",),
    count=5326,
)
EXPIRED = replace(
    GOOD,
    result="certificate-expired",
    host="mx1.mail.company-y.example",
    source_ip="2001:db8:abcd:12::1",
    remote_ip="203.0.113.56",
    count=60,
)
UNSUPPORTED = replace(EXPIRED, result="starttls-not-supported", host="mx2.mail.company-y.example", count=200)


def test_the_report_has_the_shape_of_the_rfcs_example() -> None:
    more = replace(EXPIRED, counter="deliver-b/2", count=40)
    made = report("company-y.example", DAY, [GOOD, EXPIRED, more, UNSUPPORTED], "Company-X", "sts@company-x.example")
    assert list(made) == ["organization-name", "date-range", "contact-info", "report-id", "policies"]
    assert made["date-range"] == {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"}
    assert made["policies"] == [
        {
            "policy": {
                "policy-type": "sts",
                "policy-domain": "company-y.example",
                "policy-string": list(POLICY),
                "mx-host": ["*.mail.company-y.example"],
            },
            "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 300},
            "failure-details": [
                {
                    "result-type": "certificate-expired",
                    "sending-mta-ip": "2001:db8:abcd:12::1",
                    "receiving-mx-hostname": "mx1.mail.company-y.example",
                    "receiving-ip": "203.0.113.56",
                    "failed-session-count": 100,
                },
                {
                    "result-type": "starttls-not-supported",
                    "sending-mta-ip": "2001:db8:abcd:12::1",
                    "receiving-mx-hostname": "mx2.mail.company-y.example",
                    "receiving-ip": "203.0.113.56",
                    "failed-session-count": 200,
                },
            ],
        }
    ]
    again = report("company-y.example", DAY, [UNSUPPORTED, GOOD], "Company-X", "sts@company-x.example")
    other = report("company-y.example", "2016-04-02", [GOOD], "Company-X", "sts@company-x.example")
    assert again["report-id"] == made["report-id"] != other["report-id"]


def test_each_policy_is_reported_by_itself_and_successes_alone_have_no_details() -> None:
    plain = replace(GOOD, kind="no-policy-found", policy=(), mx_host=(), count=3)
    policies = report("company-y.example", DAY, [GOOD, plain], "x", "y")["policies"]
    assert [policy["policy"]["policy-type"] for policy in policies] == ["no-policy-found", "sts"]
    assert list(policies[0]["policy"]) == ["policy-type", "policy-domain"]
    assert not any("failure-details" in policy for policy in policies)


def test_a_session_is_told_by_its_policy_and_only_a_failure_by_its_addresses() -> None:
    tlsa = Host("mx.example.org", ("192.0.2.1",), Dane("mx.example.org", (TLSARecord(3, 1, 1, bytes(32)),)))
    sts = StsPolicy("enforce", ("mx.example.org",), 86400, ("version: STSv1", "mode: enforce"))
    bare = replace(tlsa, dane=None)
    for host, policy, problem, result, wanted in (
        (tlsa, sts, "", "", ("tlsa", (f"_25._tcp.mx.example.org. IN TLSA 3 1 1 {'00' * 32}",), (), "", "")),
        (bare, sts, "", "", ("sts", sts.lines, sts.mx, "", "")),
        (bare, sts, "", "certificate-expired", ("sts", sts.lines, sts.mx, "certificate-expired", "192.0.2.1")),
        (bare, None, "", "", ("no-policy-found", (), (), "", "")),
        (bare, None, "sts-policy-invalid", "", ("sts", (), (), "sts-policy-invalid", "192.0.2.1")),
    ):
        hosts = Hosts("example.org", "found", ((host,),), sts=policy, sts_problem=problem)
        asked = required(host.name, hosts.domain, "may", host.dane, policy)
        session = session_of(hosts, host, asked, result, "192.0.2.1", "192.0.2.9")
        assert (session.kind, session.policy, session.mx_host, session.result, session.remote_ip) == wanted


def test_a_day_is_a_day_in_utc_and_a_count_survives_the_log() -> None:
    assert (day_of(1_459_468_799_999), day_of(1_459_468_800_000)) == ("2016-03-31", "2016-04-01")
    assert decode(TLSCount, encode(EXPIRED)) == EXPIRED
