CREATE TABLE dead_letters
(
    `topic` LowCardinality(String),
    `partition` UInt16,
    `offset` UInt64,
    `stage` LowCardinality(String),
    `tenant` LowCardinality(String),
    `unit_id` String CODEC(ZSTD(1)),
    `occurred_at` DateTime64(3, 'UTC'),
    `cause` LowCardinality(String),
    `explanation` String CODEC(ZSTD(1)),
    `record_key` String CODEC(ZSTD(1)),
    `record_value` String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree(occurred_at)
ORDER BY (topic, partition, offset, stage)
TTL toDateTime(occurred_at) + toIntervalDay(180)
SETTINGS index_granularity = 8192, non_replicated_deduplication_window = 1000
