"""Every setting's type, default and description. The values come from infra (environment, files); rooms get them handed down."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from depesche.schemas.reply_classes import CLASS_MEANING, Kind
from depesche.schemas.settings_monitor import AlertSettings, DNSBLSettings
from depesche.schemas.settings_part import Part

Port = int
MB = 1 << 20


class KafkaSettings(Part):
    """The log."""

    bootstrap: str = Field(
        "", description="Bootstrap servers of an outside cluster, as host:port,host:port; empty: the embedded broker."
    )
    port: Port = Field(19092, description="Port of the embedded broker.")
    controller_port: Port = Field(19093, description="Controller port of the embedded broker.")
    heap: str = Field("512m", pattern=r"^[1-9][0-9]*[mg]$", description="Heap of the embedded broker, as 512m or 2g.")
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to speak to an outside cluster."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism."
    )
    sasl_user: str = Field("", description="SASL user.")
    sasl_password: SecretStr = Field(SecretStr(""), description="SASL password.")
    ca_file: Path | None = Field(None, description="Certificate authority of the cluster; empty: the system's.")
    partitions: int = Field(2, ge=1, le=256, description="Partitions of the spread topics, when we create them.")
    replication: int = Field(1, ge=1, le=5, description="Replication factor; an outside cluster wants 3.")
    min_insync: int = Field(
        1, ge=1, le=5, description="Replicas that must have a record before it counts; an outside cluster wants 2."
    )
    deadline_seconds: float = Field(
        10.0, gt=0, description="How long a door waits for the log before it answers 451 or 503."
    )
    topic_prefix: str = Field("", description="Put in front of every topic and group name, to share a cluster.")


class ClickHouseSettings(Part):
    """The store for search and reports."""

    url: str = Field("", description="URL of a server or cluster; empty: the embedded engine.")
    port: Port = Field(18123, description="HTTP port of the embedded engine.")
    user: str = Field("depesche", description="User.")
    password: SecretStr = Field(
        SecretStr(""), description="Password; empty with the embedded engine: made on first start."
    )
    database: str = Field("depesche", description="Database.")
    cluster: str = Field(
        "",
        description="Cluster name; empty: a single server. Chooses the ON CLUSTER and Replicated variants of the DDL.",
    )
    flush_seconds: float = Field(
        2.0, gt=0, description="How long the sink collects events at most; when it is quiet it writes at once."
    )
    flush_rows: int = Field(20_000, ge=1, description="How many events the sink collects at most.")


class RestSettings(Part):
    """The REST door."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(8025, description="Port to listen on.")
    trusted_proxies: tuple[str, ...] = Field((), description="Addresses of own proxies whose X-Real-IP is believed.")
    max_body: int = Field(20 * MB, description="Largest request body in bytes (wire note 2.4).")
    public_url: str = Field("", description="How the world reaches this door; empty: http://host:port.")


class SMTPSettings(Part):
    """The SMTP door."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(2587, description="Submission port with STARTTLS; 0: closed.")
    tls_port: Port = Field(2465, description="Submission port with implicit TLS; 0: closed.")
    relay_port: Port = Field(
        0, description="Port without TLS for machines whose source address is registered as login; 0: closed."
    )
    hostname: str = Field("depesche.test", description="Name in the banner and in Received lines.")
    certificate: Path | None = Field(None, description="PEM chain; empty: self-made on first start.")
    private_key: Path | None = Field(None, description="PEM private key; empty: self-made on first start.")
    max_size: int = Field(20 * MB, description="Largest message in bytes (RFC 1870 SIZE).")
    max_recipients: int = Field(1000, description="Recipients per transaction; the next gets 452 4.5.3.")
    max_connections: int = Field(500, description="Open connections in all; the next gets 421.")
    max_connections_per_ip: int = Field(100, description="Open connections per source address.")
    max_auth_tries: int = Field(3, description="Failed logins per connection.")
    command_seconds: float = Field(300, description="Longest wait for a command (RFC 5321 4.5.3.2.7).")
    session_seconds: float = Field(3600, description="Longest life of a connection.")
    min_bytes_per_second: int = Field(500, description="A slower DATA transfer is ended after its first minute.")
    max_line: int = Field(4096, description="Longest command line in bytes.")


class ReturnsSettings(Part):
    """The way back: bounces, complaints and unsubscribes."""

    domain: str = Field(
        "",
        description="Domain of our return path; its MX must lead to this door, its SPF must name the sending addresses. "
        "Empty: off, and mail leaves with the envelope sender that was submitted.",
    )
    more_domains: tuple[str, ...] = Field(
        (), description="Further domains whose mail is taken, such as one that was the return path before."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(2525, description="Port to listen on; the world's port 25 is led here. 0: closed.")
    hostname: str = Field("", description="Name in the banner; empty: the SMTP door's.")
    max_size: int = Field(20 * MB, description="Largest mail in bytes; what is larger is refused.")
    max_recipients: int = Field(100, description="Recipients per transaction; the next gets 452 4.5.3.")
    max_connections: int = Field(200, description="Open connections in all; the next gets 421.")
    max_connections_per_ip: int = Field(20, description="Open connections per source address.")
    retention_days: int = Field(
        7,
        ge=1,
        description="How long a returned mail can be read; then its key is erased. What it said is kept as events.",
    )
    unit_wait_seconds: float = Field(
        900, ge=0, description="How long a report waits for its mail to be known in the store; then it is buried."
    )


class ArchiveSettings(Part):
    """Message bodies at rest."""

    directory: Path | None = Field(None, description="Where segments lie; empty: archive/ under home.")
    segment_bytes: int = Field(256 * MB, ge=MB, description="Size of a segment; it is preallocated.")
    retention_days: int = Field(45, ge=1, description="How long bodies are kept.")
    fsync: bool = Field(True, description="Whether bytes are on disk before a door says yes. Off only for experiments.")


class ScanSettings(Part):
    """The virus scanners."""

    engines: tuple[Literal["clamav", "yara"], ...] = Field(
        ("clamav", "yara"), description="Engines every message must pass."
    )
    clamd: str = Field("", description="clamd as host:port or path of its socket; empty: the embedded one.")
    clamd_port: Port = Field(13310, description="Port of the embedded clamd.")
    clamd_whole: bool = Field(
        False,
        description="Whether clamd is given every mail in one piece. Otherwise large attachments are given to it decoded, beside "
        "the rest of their mail, which halves its work.",
    )
    yara_rules: Path | None = Field(None, description="Directory with own .yar files beside the ones shipped.")
    timeout_seconds: float = Field(60, description="Longest wait for one verdict.")


class DNSSettings(Part):
    """Name resolution for delivery and checks."""

    servers: tuple[str, ...] = Field(
        (), description="Resolvers as host or host:port; empty: the system's (or the sandbox's)."
    )
    timeout_seconds: float = Field(5, description="Longest wait for one question.")
    cache_seconds: int = Field(3600, description="Longest time an answer is kept, whatever its TTL.")
    validating: bool = Field(
        False,
        description="Whether the resolvers check DNSSEC and the way to them is safe (on this machine). Only then their word "
        "that an answer is secure counts, and TLSA records are looked for (DANE).",
    )


class TLSSettings(Part):
    """TLS towards the far side: the receivers' own policies, and what is counted of them."""

    sts: bool = Field(True, description="Whether the MTA-STS policies of recipients' domains are looked for and kept.")
    sts_port: Port = Field(443, description="Port of the hosts that MTA-STS policies are fetched from.")
    sts_seconds: float = Field(20, gt=0, description="Longest wait for one policy.")
    ca_file: Path | None = Field(
        None,
        description="Certificate authorities that policy hosts, and mail hosts under MTA-STS, are trusted by; empty: the "
        "system's.",
    )
    organization: str = Field("", description="Who reports, in TLS reports (RFC 8460); empty: the name in EHLO.")
    contact: str = Field("", description="Contact address in TLS reports; empty: postmaster at the name in EHLO.")


class DeliverSettings(Part):
    """The couriers."""

    port: Port = Field(25, description="Port of the far side.")
    helo: str = Field("", description="Name in EHLO; empty: the SMTP door's host name.")
    source_ips: tuple[str, ...] = Field((), description="Own addresses to send from; empty: the system chooses.")
    allow_private: bool = Field(
        False,
        description="Whether private and loopback addresses may be delivered to. On only in the sandbox and in tests.",
    )
    connections_per_route: int = Field(10, ge=1, description="Connections per route.")
    in_flight: int = Field(
        4096, ge=1, description="Units in one courier process, those included that wait for a connection."
    )
    messages_per_connection: int = Field(500, ge=1, description="A connection is closed after so many.")
    shaping: Path | None = Field(
        None,
        description="Shaping file laid over the shipped one, read anew when it changes; empty: shaping.toml under home.",
    )
    idle_seconds: float = Field(15, description="An unused connection is closed after so long.")
    lifetime_hours: float = Field(48, gt=0, description="How long delivery is tried by default.")
    ladder: tuple[str, ...] = Field(
        ("1m", "5m", "15m", "1h", "1h", "4h"), description="Rung after each failed attempt; the last one repeats."
    )
    time_scale: float = Field(1.0, gt=0, description="Multiplies the ladder's delays; below 1 only in tests and demos.")
    connect_seconds: float = Field(30, description="Wait for a connection.")
    banner_seconds: float = Field(300, description="Wait for the greeting (RFC 5321 4.5.3.2.1).")
    command_seconds: float = Field(300, description="Wait for a reply to EHLO, MAIL, RCPT (4.5.3.2.2, .3).")
    data_seconds: float = Field(120, description="Wait for a reply to DATA (4.5.3.2.4).")
    block_seconds: float = Field(180, description="Wait for a block of data to leave (4.5.3.2.5).")
    dot_seconds: float = Field(600, description="Wait for the reply to the final dot (4.5.3.2.6).")
    after_ambiguity: Literal["retry", "hold"] = Field(
        "retry", description="What to do when nobody can know whether the far side took a mail."
    )


class SuppressionSettings(Part):
    """The suppression list: after which answers nobody writes to a recipient any more, and for how long."""

    enabled: bool = Field(True, description="Whether the list is consulted; it is kept in any case.")
    scope: Literal["tenant", "global"] = Field(
        "tenant",
        description="Whether what happened to one customer's mail suppresses the person for all customers. What happened "
        "before it was switched to global stays with its customer.",
    )
    lifetimes: tuple[str, ...] = Field(
        (
            "mailbox_full=1",
            "recipient_disabled=7",
            "recipient_refused=7",
            "no_mail_host=7",
            "recipient_unknown=45",
            "domain_unknown=45",
            "recipient_moved=45",
        ),
        description="Reply classes that suppress, as class=days, 1 to 45; one day is told as temporary. Other classes never do, "
        "and none of kind block may: it says something about the sender.",
    )
    hard_bounces: int = Field(
        1, ge=1, le=3, description="Hard bounces after which a recipient counts as dead; three vague ones always do."
    )

    @field_validator("lifetimes")
    @classmethod
    def _known_classes(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        allowed = [name.value for name, meaning in CLASS_MEANING.items() if meaning.kind in (Kind.HARD, Kind.SOFT)]
        for entry in given:
            name, _, days = entry.partition("=")
            if name not in allowed:
                raise ValueError(f"{name!r} is no class that may suppress; there are {', '.join(allowed)}")
            if not days.isdigit() or not 1 <= int(days) <= 45:
                raise ValueError(f"{entry!r} has not the form class=days with 1 to 45 days")
        return given


class PaceSettings(Part):
    """How the pace of a pool at a provider follows the provider's answers (the law is `streams/mail/pace.py`)."""

    window_seconds: float = Field(
        60, gt=0, description="Answers are counted over so long; a limit is not changed twice within it."
    )
    answers: int = Field(3, ge=1, description="So many refusals in the window are needed before anything is lowered.")
    share: float = Field(
        0.05, gt=0, le=1, description="And this share of all answers: a few refusals among thousands mean nothing."
    )
    doubtful_share: float = Field(
        0.25, gt=0, le=1, description="The share from which temporary refusals without a clear reason count as well."
    )
    block_share: float = Field(
        0.3, gt=0, le=1, description="The share of reputation and policy refusals from which a provider is suspended."
    )
    block_answers: int = Field(
        10, ge=1, description="And their number: a few mails refused for what they are suspend no provider."
    )
    cut: float = Field(0.7, ge=0.1, lt=1, description="A lowered rate is this part of what was really delivered.")
    connections_cut: float = Field(0.5, ge=0.1, lt=1, description="Lowered connections are this part of those before.")
    least_per_minute: float = Field(6, gt=0, description="A rate is never lowered below.")
    raise_factor: float = Field(1.1, gt=1, le=2, description="A rate grows by this factor in each quiet window.")
    near: float = Field(
        0.9, gt=0, lt=1, description="It stops at this part of the rate that was too much, for as long as is held."
    )
    hold_seconds: float = Field(900, gt=0, description="How long it is held; doubled when more was too much again.")
    longest_hold_seconds: float = Field(14400, gt=0, description="The longest it is held.")
    suspend_seconds: float = Field(900, gt=0, description="The first suspension; each further one takes twice as long.")
    longest_suspend_seconds: float = Field(14400, gt=0, description="The longest suspension.")
    limit_seconds: float = Field(
        28800, gt=0, description="A limit that no new refusal renews ends after so long by itself."
    )
    memory_seconds: float = Field(
        86400, gt=0, description="How long earlier holds and suspensions make later ones longer."
    )


class SandboxSettings(Part):
    """The far side on this machine that ``depesche up`` sends to."""

    enabled: bool = Field(
        True, description="Whether everything is sent to the sandbox on this machine. Off: to the world."
    )
    postfix_host: str = Field(
        "127.0.0.3",
        description="Loopback address of the sandbox's Postfix; the scripted mailbox has 127.0.0.2 and others.",
    )
    smtp_port: Port = Field(12525, description="SMTP port of mailbox and Postfix.")
    dns_port: Port = Field(15353, description="Port of the sandbox's DNS.")


class Settings(Part):
    """Everything that can be set."""

    home: Path = Field(Path(".depesche"), description="The one directory with all state.")
    port_offset: int = Field(
        0, ge=0, le=40000, description="Added to every default port, so that two checkouts can run side by side."
    )
    environment: Literal["local", "production"] = Field(
        "local", description="production refuses the sandbox and self-made secrets."
    )
    master_key_file: Path | None = Field(
        None, description="File with the 32-byte master key; empty: keys/master under home, made on first start."
    )
    metrics_port: Port = Field(
        0,
        description="First port for Prometheus metrics on the loopback, one per process in the order of layout; 0: off.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")
    layout: tuple[str, ...] = Field(
        (
            "doors=rest+smtp+inbound",
            "workshop=prepare+retry+returns",
            "couriers=deliver",
            "analytics=analytics+monitor",
            "agents=agents",
            "sandbox=dns+mailbox",
        ),
        description="Which services `depesche up` runs in which process, as process=service+service. A service may stand "
        "in several processes, which then share its work.",
    )
    kafka: KafkaSettings = KafkaSettings.model_validate({})
    clickhouse: ClickHouseSettings = ClickHouseSettings.model_validate({})
    rest: RestSettings = RestSettings.model_validate({})
    smtp: SMTPSettings = SMTPSettings.model_validate({})
    returns: ReturnsSettings = ReturnsSettings.model_validate({})
    archive: ArchiveSettings = ArchiveSettings.model_validate({})
    scan: ScanSettings = ScanSettings.model_validate({})
    dns: DNSSettings = DNSSettings.model_validate({})
    tls: TLSSettings = TLSSettings.model_validate({})
    deliver: DeliverSettings = DeliverSettings.model_validate({})
    suppression: SuppressionSettings = SuppressionSettings.model_validate({})
    pace: PaceSettings = PaceSettings.model_validate({})
    dnsbl: DNSBLSettings = DNSBLSettings.model_validate({})
    alerts: AlertSettings = AlertSettings.model_validate({})
    sandbox: SandboxSettings = SandboxSettings.model_validate({})

    @property
    def bootstrap(self) -> str:
        """Bootstrap servers in force."""
        return self.kafka.bootstrap or f"127.0.0.1:{self.kafka.port}"

    @property
    def archive_directory(self) -> Path:
        """Where segments lie."""
        return self.archive.directory or self.home / "archive"

    @property
    def shaping_file(self) -> Path:
        """The operator's shaping file; it need not be there."""
        return self.deliver.shaping or self.home / "shaping.toml"

    @property
    def rest_url(self) -> str:
        """How the REST door is reached."""
        return self.rest.public_url or f"http://{self.rest.host}:{self.rest.port}"
