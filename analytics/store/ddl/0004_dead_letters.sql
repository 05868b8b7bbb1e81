-- The cemetery, queryable: records nobody could decide, with their cause and their original bytes.
-- A record that was buried twice stands here once.
CREATE TABLE IF NOT EXISTS dead_letters {on_cluster}
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64,
    stage LowCardinality(String),
    tenant LowCardinality(String),
    unit_id String CODEC(ZSTD(1)),
    occurred_at DateTime64(3, 'UTC'),
    cause LowCardinality(String),
    explanation String CODEC(ZSTD(1)),
    record_key String CODEC(ZSTD(1)),
    record_value String CODEC(ZSTD(3))
)
ENGINE = {engine:ReplacingMergeTree(occurred_at)}
ORDER BY (topic, partition, offset, stage)
TTL toDateTime(occurred_at) + INTERVAL 180 DAY
SETTINGS index_granularity = 8192{deduplication}
