CREATE TABLE units
(
    `tenant` LowCardinality(String),
    `accepted_at` DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `unit_id` String CODEC(ZSTD(1)),
    `account` LowCardinality(String),
    `interface` LowCardinality(String),
    `sender_domain` LowCardinality(String),
    `recipient_domain` String CODEC(ZSTD(1)),
    `recipient_key` String CODEC(ZSTD(1)),
    `recipient` String CODEC(ZSTD(1)) TTL toDateTime(accepted_at) + toIntervalDay(45),
    `mail_from` String CODEC(ZSTD(1)) TTL toDateTime(accepted_at) + toIntervalDay(45),
    `header_from` String CODEC(ZSTD(1)) TTL toDateTime(accepted_at) + toIntervalDay(45),
    `subject` String CODEC(ZSTD(1)) TTL toDateTime(accepted_at) + toIntervalDay(45),
    `client` String CODEC(ZSTD(1)) TTL toDateTime(accepted_at) + toIntervalDay(45),
    `message_id` String CODEC(ZSTD(1)),
    `size` UInt32,
    `block` UInt16,
    `reference_job` String CODEC(ZSTD(1)),
    `cost_center` LowCardinality(String),
    `campaign_id` LowCardinality(String),
    `reference` String CODEC(ZSTD(1)),
    `expires_at` DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    INDEX recipient_bloom lowerUTF8(recipient) TYPE bloom_filter(0.005) GRANULARITY 1,
    INDEX recipient_domain_bloom recipient_domain TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX mail_from_bloom lowerUTF8(mail_from) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX header_from_bloom lowerUTF8(header_from) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX message_id_bloom message_id TYPE bloom_filter(0.005) GRANULARITY 1,
    INDEX campaign_id_bloom campaign_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX reference_bloom reference TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX reference_job_bloom reference_job TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX subject_ngrams lowerUTF8(subject) TYPE ngrambf_v1(4, 16384, 3, 0) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(accepted_at)
ORDER BY (tenant, accepted_at, unit_id)
TTL toDateTime(accepted_at) + toIntervalDay(180)
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, index_granularity = 8192
