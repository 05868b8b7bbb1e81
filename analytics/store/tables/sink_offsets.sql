CREATE TABLE sink_offsets
(
    `topic` LowCardinality(String),
    `partition` UInt16,
    `next_offset` UInt64,
    `written_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(next_offset)
ORDER BY (topic, partition)
SETTINGS index_granularity = 8192
