-- What was accepted: one row per unit, the same whenever it is written again. What became of it is in states.
-- Names and words of people (recipient, sender, subject, client) go after 45 days, counts and sizes after 180.
CREATE TABLE IF NOT EXISTS units {on_cluster}
(
    tenant LowCardinality(String),
    accepted_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    unit_id String CODEC(ZSTD(1)),
    account LowCardinality(String),
    interface LowCardinality(String),
    sender_domain LowCardinality(String),
    recipient_domain String CODEC(ZSTD(1)),
    recipient_key String CODEC(ZSTD(1)),
    recipient String TTL toDateTime(accepted_at) + INTERVAL 45 DAY CODEC(ZSTD(1)),
    mail_from String TTL toDateTime(accepted_at) + INTERVAL 45 DAY CODEC(ZSTD(1)),
    header_from String TTL toDateTime(accepted_at) + INTERVAL 45 DAY CODEC(ZSTD(1)),
    subject String TTL toDateTime(accepted_at) + INTERVAL 45 DAY CODEC(ZSTD(1)),
    client String TTL toDateTime(accepted_at) + INTERVAL 45 DAY CODEC(ZSTD(1)),
    message_id String CODEC(ZSTD(1)),
    size UInt32,
    block UInt16,
    reference_job String CODEC(ZSTD(1)),
    cost_center LowCardinality(String),
    campaign_id LowCardinality(String),
    reference String CODEC(ZSTD(1)),
    expires_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
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
ENGINE = {engine:ReplacingMergeTree}
PARTITION BY toYYYYMMDD(accepted_at)
ORDER BY (tenant, accepted_at, unit_id)
TTL toDateTime(accepted_at) + INTERVAL 180 DAY
SETTINGS ttl_only_drop_parts = 1{deduplication}
