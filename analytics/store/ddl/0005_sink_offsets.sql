-- How far the log has been written here: all records of a partition below next_offset are in these tables.
-- This, and not a consumer group's offset, is where the sink goes on. To build everything anew, empty all tables.
CREATE TABLE IF NOT EXISTS sink_offsets {on_cluster}
(
    topic LowCardinality(String),
    partition UInt16,
    next_offset UInt64,
    written_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = {engine:ReplacingMergeTree(next_offset)}
ORDER BY (topic, partition)
