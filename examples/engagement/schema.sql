-- SPDX-License-Identifier: Apache-2.0
-- The example's source tables. Running it again changes nothing.

CREATE TABLE IF NOT EXISTS content (
  id             uuid PRIMARY KEY,
  slug           text UNIQUE NOT NULL,
  title          text NOT NULL,
  content_type   text CHECK (content_type IN ('podcast', 'newsletter', 'video')),
  length_seconds integer,
  publish_ts     timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS engagement_events (
  id          bigserial PRIMARY KEY,
  content_id  uuid REFERENCES content (id),
  user_id     uuid,
  event_type  text CHECK (event_type IN ('play', 'pause', 'finish', 'click')),
  event_ts    timestamptz NOT NULL,
  duration_ms integer,
  device      text,
  raw_payload jsonb
);
