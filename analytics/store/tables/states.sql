CREATE TABLE states
(
    `tenant` LowCardinality(String),
    `accepted_at` DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `unit_id` String CODEC(ZSTD(1)),
    `status` LowCardinality(String),
    `final` Bool,
    `changed_at` DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `sequence` UInt32,
    `attempts` UInt16,
    `account` LowCardinality(String),
    `sender_domain` LowCardinality(String),
    `recipient_domain` String CODEC(ZSTD(1)),
    `provider` LowCardinality(String),
    `reason` LowCardinality(String),
    `host` LowCardinality(String),
    `code` UInt16,
    `enhanced_code` LowCardinality(String),
    `reply_class` LowCardinality(String),
    `kind` LowCardinality(String),
    `reply_text` String CODEC(ZSTD(1)) TTL toDateTime(accepted_at) + toIntervalDay(45),
    `next_attempt_at` Nullable(DateTime64(3, 'UTC')),
    `ambiguous` Bool,
    `source_offset` UInt64 CODEC(Delta(8), ZSTD(1)),
    `version` UInt64 DEFAULT bitShiftLeft(toUInt64(sequence + if(final, 1000000, 0)), 40) + (1099511627775 - source_offset),
    INDEX status_set status TYPE set(32) GRANULARITY 1,
    INDEX code_set code TYPE set(64) GRANULARITY 1,
    INDEX reason_set reason TYPE set(32) GRANULARITY 1,
    INDEX provider_bloom provider TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMMDD(accepted_at)
ORDER BY (tenant, accepted_at, unit_id)
TTL toDateTime(accepted_at) + toIntervalDay(180)
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, index_granularity = 8192
