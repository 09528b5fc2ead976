# SPDX-License-Identifier: Apache-2.0
"""Every target against the oracle, row by row: what is lost, doubled or wrong, with its keys."""

import json
from collections import Counter

import redis
from engagement import COLUMNS, canonical, near, to_time

# A half may be rounded either way in it; near() compares it.
INEXACT = "engagement_percent"
CONTENT = ("slug", "title", "content_type", "length_seconds")
SHOWN = 20


class Difference:
    """Of all targets, by target: how many rows of each kind, and the keys of the first."""

    def __init__(self):
        self.counts = {"lost": Counter(), "doubled": Counter(), "wrong": Counter()}
        self.rows = Counter()
        self.lines = []

    def total(self, kind):
        return sum(self.counts[kind].values())

    def add(self, kind, target, key, count=1):
        self.counts[kind][target] += count
        if self.counts[kind][target] <= SHOWN:
            self.lines.append(f"{target}: {kind}: {key}")

    def bags(self, target, wanted, found):
        """Rows where nothing hides a double; each is something hashable that names it."""
        wanted, found = Counter(wanted), Counter(found)
        self.rows[target] += found.total()
        for row, count in (wanted - found).items():
            self.add("lost", target, row, count)
        for row, count in (found - wanted).items():
            self.add("doubled" if row in wanted else "wrong", target, row, count)

    def maps(self, target, wanted, found, equal):
        """Rows by key, in a target that keeps the newest."""
        self.rows[target] += len(found)
        for key in wanted.keys() - found.keys():
            self.add("lost", target, key)
        for key in found.keys() - wanted.keys():
            self.add("wrong", target, f"{key}, which is not in the source")
        for key in wanted.keys() & found.keys():
            if not equal(wanted[key], found[key]):
                self.add("wrong", target, f"{key}: {found[key]}, not {wanted[key]}")

    def sequence(self, target, wanted, found):
        """(op, canonical row), each exactly once and in commit order."""
        before = self.total("lost") + self.total("doubled") + self.total("wrong")
        self.bags(target, map(identity, wanted), map(identity, found))
        if self.total("lost") + self.total("doubled") + self.total("wrong") > before:
            return
        for number, ((op, row), (other_op, other)) in enumerate(zip(wanted, found)):
            if identity((op, row)) != identity((other_op, other)):
                return self.add("wrong", target, f"order from row {number} on: {identity((op, row))}")
            if op == "upsert" and not near(row, other):
                self.add("wrong", target, f"{other}, not {row}")


def identity(output):
    """What tells an output from every other: random values are among the columns."""
    op, row = output
    if op == "delete":
        return ("delete", row["event_id"])
    return (op, *(json.dumps(row[name], sort_keys=True) for name in COLUMNS if name != INEXACT))


def as_output(entry):
    """An entry of a log as (op, row)."""
    if entry.get("_deleted") in (True, 1, "1"):
        return "delete", {"event_id": int(entry["event_id"])}
    return "upsert", canonical(entry)


def is_same_content(wanted, found):
    return all(
        (None if found.get(name) is None else str(found[name])) == (None if wanted[name] is None else str(wanted[name]))
        for name in CONTENT
    ) and to_time(found["publish_ts"]) == wanted["publish_ts"].timestamp()  # fmt: skip


def compare(rig):
    """With everything healed and delivered."""
    difference = Difference()
    rig.source.reconnect()
    outputs = rig.source.outputs()
    contents = {str(row["id"]): row for row in rig.source.contents_now()}
    audit = [tuple(row) for row in rig.source.execute("SELECT id, session, body FROM audit")]
    compare_warehouse(difference, rig.pipeline, outputs, contents, audit)
    compare_live(difference, rig.pipeline, outputs, contents, audit)
    compare_events(difference, rig.pipeline, outputs, audit)
    return difference


def audit_rows(entries):
    return [(int(entry["id"]), int(entry["session"]), entry["body"]) for entry in entries]


def compare_warehouse(difference, pipeline, outputs, contents, audit):
    for table in ("audit", "audit_log"):
        rows = audit_rows(pipeline.clickhouse_rows(table, final=False))
        difference.bags(f"ClickHouse {table}", audit, rows)
    sums = {}
    for row in pipeline.clickhouse_rows("audit_sums", final=False):
        n, total = sums.get(int(row["session"]), (0, 0))
        sums[int(row["session"])] = (n + int(row["n"]), total + int(row["total"]))
    wanted = {}
    for key, session, _ in audit:
        n, total = wanted.get(session, (0, 0))
        wanted[session] = (n + 1, total + key)
    difference.maps("ClickHouse audit_sums", wanted, sums, lambda a, b: a == b)

    final = {}
    for op, row in outputs:
        if op == "delete":
            final.pop(row["event_id"], None)
        else:
            final[row["event_id"]] = row
    rows = [canonical(row) for row in pipeline.clickhouse_rows()]
    newest = {row["event_id"]: row for row in rows}
    if len(newest) < len(rows):
        for key, count in Counter(row["event_id"] for row in rows).items():
            if count > 1:
                difference.add("doubled", "ClickHouse enriched_engagements", key, count - 1)
    difference.maps("ClickHouse enriched_engagements", final, newest, near)
    mirrored = {row["id"]: row for row in pipeline.clickhouse_rows("content_dim")}
    difference.maps("ClickHouse content_dim", contents, mirrored, is_same_content)
    compare_events_log(difference, pipeline, outputs)


def compare_events_log(difference, pipeline, outputs):
    """Every row that was ever inserted, by a view. An output that moved has a tombstone where it was, too."""
    rows = pipeline.clickhouse_rows("events_log", final=False)
    rows.sort(key=lambda row: (int(row["_version"]), not row["_deleted"]))
    upserted = {(row["_version"], row["event_id"]) for row in rows if not row["_deleted"]}
    entries, moves = [], []
    for row in rows:
        if row["_deleted"] and (row["_version"], row["event_id"]) in upserted:
            moves.append((row["_version"], row["event_id"]))
        else:
            entries.append(as_output(row))
    difference.sequence("ClickHouse events_log", outputs, entries)
    difference.bags("ClickHouse events_log, moves", set(moves), moves)


def compare_live(difference, pipeline, outputs, contents, audit):
    entries = pipeline.redis_entries()
    difference.sequence("Redis enriched_events", outputs, [as_output(fields) for _, fields in entries])
    for key, fields in entries:
        if key != f"chaos:enriched_events:{fields.get('content_type', 'unknown')}":
            difference.add("wrong", "Redis enriched_events", f"{fields['event_id']} in {key}")
    with redis.Redis.from_url(pipeline.redis.url, decode_responses=True) as client:
        added = client.xrange("chaos:audit")
        assert client.xlen("chaos:audit") == len(added)
        hashes = {key.removeprefix("chaos:content:"): client.hgetall(key)
                  for key in client.scan_iter("chaos:content:*")}  # fmt: skip
    difference.bags("Redis audit", audit, audit_rows(fields for _, fields in added))
    difference.maps("Redis content", contents, hashes, is_same_content)


def compare_events(difference, pipeline, outputs, audit):
    messages = pipeline.kafka_messages()
    versions = [int(value["_version"]) for _, value in messages]
    if versions != sorted(versions):
        difference.add("wrong", "Kafka", "versions do not ascend")
    difference.sequence("Kafka enriched_engagements", outputs, [as_output(value) for _, value in messages])
    added = [value for _, value in pipeline.kafka_messages(f"{pipeline.topic}_audit")]
    difference.bags("Kafka audit", audit, audit_rows(added))
