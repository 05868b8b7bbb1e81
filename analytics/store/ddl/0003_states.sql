-- Where each unit stands: the row of its last step, and a final step outranks every other (version).
-- Two copies of one step have the same rank; then the first in the log wins, as in events.
CREATE TABLE IF NOT EXISTS states {on_cluster}
(
    tenant LowCardinality(String),
    accepted_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    unit_id String CODEC(ZSTD(1)),
    status LowCardinality(String),
    final Bool,
    changed_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    sequence UInt32,
    attempts UInt16,
    account LowCardinality(String),
    sender_domain LowCardinality(String),
    recipient_domain String CODEC(ZSTD(1)),
    provider LowCardinality(String),
    reason LowCardinality(String),
    host LowCardinality(String),
    code UInt16,
    enhanced_code LowCardinality(String),
    reply_class LowCardinality(String),
    kind LowCardinality(String),
    reply_text String TTL toDateTime(accepted_at) + INTERVAL 45 DAY CODEC(ZSTD(1)),
    next_attempt_at Nullable(DateTime64(3, 'UTC')),
    ambiguous Bool,
    source_offset UInt64 CODEC(Delta, ZSTD(1)),
    version UInt64 DEFAULT bitShiftLeft(toUInt64(sequence + if(final, 1000000, 0)), 40) + (1099511627775 - source_offset),
    INDEX status_set status TYPE set(32) GRANULARITY 1,
    INDEX code_set code TYPE set(64) GRANULARITY 1,
    INDEX reason_set reason TYPE set(32) GRANULARITY 1,
    INDEX provider_bloom provider TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {engine:ReplacingMergeTree(version)}
PARTITION BY toYYYYMMDD(accepted_at)
ORDER BY (tenant, accepted_at, unit_id)
TTL toDateTime(accepted_at) + INTERVAL 180 DAY
SETTINGS ttl_only_drop_parts = 1{deduplication}
