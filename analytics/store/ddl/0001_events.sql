-- The full history: every event of mail.events and mail.outcomes, once, whatever was processed twice.
-- accepted_at is the time within the job's id. It never differs between two copies of an event, so copies meet in one
-- partition under one key, and all events of a job lie side by side. Of two copies the first in the log wins (version).
CREATE TABLE IF NOT EXISTS events {on_cluster}
(
    tenant LowCardinality(String),
    accepted_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    unit_id String CODEC(ZSTD(1)),
    event_id UUID,
    type LowCardinality(String),
    occurred_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    sequence UInt32,
    attempt UInt16,
    final Bool,
    account LowCardinality(String),
    recipient_key String CODEC(ZSTD(1)),
    cause_id String,
    worker LowCardinality(String),
    provider LowCardinality(String),
    sender_domain LowCardinality(String),
    recipient_domain String CODEC(ZSTD(1)),
    recipient String CODEC(ZSTD(1)),
    reply_text String CODEC(ZSTD(1)),
    transcript String CODEC(ZSTD(3)),
    finding String CODEC(ZSTD(1)),
    reason LowCardinality(String),
    stage LowCardinality(String),
    host LowCardinality(String),
    remote_ip String CODEC(ZSTD(1)),
    source_ip LowCardinality(String),
    tls LowCardinality(String),
    code UInt16,
    enhanced_code LowCardinality(String),
    step LowCardinality(String),
    reply_class LowCardinality(String),
    kind LowCardinality(String),
    queue_id String CODEC(ZSTD(1)),
    millis UInt32,
    next_attempt_at Nullable(DateTime64(3, 'UTC')),
    ambiguous Bool,
    detail String CODEC(ZSTD(1)),
    source_topic LowCardinality(String),
    source_partition UInt16,
    source_offset UInt64 CODEC(Delta, ZSTD(1)),
    version UInt64 DEFAULT 9223372036854775807 - source_offset,
    written_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    INDEX occurred_range occurred_at TYPE minmax GRANULARITY 1,
    INDEX written_range written_at TYPE minmax GRANULARITY 1,
    INDEX type_set type TYPE set(32) GRANULARITY 1
)
ENGINE = {engine:ReplacingMergeTree(version)}
PARTITION BY toYYYYMMDD(accepted_at)
ORDER BY (tenant, accepted_at, unit_id, event_id)
TTL toDateTime(accepted_at) + INTERVAL 45 DAY
SETTINGS ttl_only_drop_parts = 1{deduplication}
