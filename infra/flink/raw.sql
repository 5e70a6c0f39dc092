-- Kafka's topics become Parquet files by date and hour by Flink SQL, in place of `python -m jobs collect`: for a team that
-- runs Flink anyway. docs/own-logs.md says how Tidegate reads them, what differs, and what of this was tried.
--
-- Needs on Flink's class path flink-sql-connector-kafka and flink-sql-parquet of its version, and an S3 plugin where files
-- go there.

SET 'execution.runtime-mode' = 'streaming';
-- A file counts once the checkpoint that closes it is done, so exactly once needs them.
SET 'execution.checkpointing.interval' = '5 min';
SET 'execution.checkpointing.mode' = 'EXACTLY_ONCE';
SET 'table.local-time-zone' = 'UTC';
-- A partition of the topic without events does not hold back the others.
SET 'table.exec.source.idle-timeout' = '30 min';

CREATE TABLE shown_events (
  impression_id STRING,
  request_id STRING,
  event_time TIMESTAMP_LTZ(3),
  came_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  user_id STRING,
  item_id STRING,
  surface STRING,
  `position` INT,
  propensity DOUBLE,
  policy STRING,
  device STRING,
  region STRING,
  context_depth DOUBLE,
  WATERMARK FOR event_time AS event_time - INTERVAL '30' MINUTE
) WITH (
  'connector' = 'kafka',
  'topic' = 'views',
  'properties.bootstrap.servers' = 'kafka:9092',
  'properties.group.id' = 'tidegate-flink',
  'scan.startup.mode' = 'group-offsets',
  'properties.auto.offset.reset' = 'earliest',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'json.ignore-parse-errors' = 'true'
);

CREATE TABLE impressions (
  impression_id STRING,
  request_id STRING,
  event_time TIMESTAMP_LTZ(3),
  ingested_at TIMESTAMP_LTZ(3),
  user_id STRING,
  item_id STRING,
  surface STRING,
  `position` INT,
  propensity DOUBLE,
  policy STRING,
  device STRING,
  region STRING,
  context_depth DOUBLE,
  `date` STRING,
  `hour` STRING
) PARTITIONED BY (`date`, `hour`) WITH (
  'connector' = 'filesystem',
  'path' = 's3://team/landed/impressions',
  'format' = 'parquet',
  'parquet.utc-timezone' = 'true',
  'parquet.write.int64.timestamp' = 'true',
  'parquet.timestamp.time.unit' = 'micros',
  'sink.partition-commit.trigger' = 'partition-time',
  'partition.time-extractor.timestamp-pattern' = '$date $hour:00:00',
  'sink.partition-commit.watermark-time-zone' = 'UTC',
  'sink.partition-commit.delay' = '1 h',
  'sink.partition-commit.policy.kind' = 'success-file',
  'sink.rolling-policy.file-size' = '128MB',
  'sink.rolling-policy.rollover-interval' = '15 min'
);

INSERT INTO impressions
SELECT
  impression_id, request_id, event_time, GREATEST(came_at, event_time), user_id, item_id, surface, `position`,
  propensity, policy, device, region, context_depth,
  DATE_FORMAT(event_time, 'yyyy-MM-dd'), DATE_FORMAT(event_time, 'HH')
FROM shown_events
WHERE event_time IS NOT NULL;
