#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of the targets whose inputs are binary or begin with a type: fuzz/corpus.

    fuzz/make_seeds.py

Seeds that a fuzzer found are files of their own, named for what they showed; this leaves them.
"""

import struct
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"

# As in value_types.h.
TYPES = [
    "bool", "int16", "int32", "int64", "float32", "float64", "decimal4_2", "decimal9_9",
    "decimal18", "decimal38_10", "date", "time", "timestamp", "timestamptz", "interval", "uuid",
    "text", "enum", "json", "bytes",
]  # fmt: skip

VALUES = {
    "bool": ["t", "f"],
    "int16": ["-32768", "32767"],
    "int32": ["-2147483648", "2147483647"],
    "int64": ["-9223372036854775808", "9223372036854775807"],
    "float32": ["1e-45", "3.4028235e+38", "NaN", "-0"],
    "float64": ["5e-324", "1.7976931348623157e+308", "-Infinity", "0.30000000000000004"],
    "decimal4_2": ["-99.99", "NaN", "0.00"],
    "decimal9_9": ["0.123456789", "-Infinity"],
    "decimal18": ["999999999999999999"],
    "decimal38_10": ["-1234567890123456789012345678.0123456789", "Infinity"],
    "date": ["2024-02-29", "4714-11-24 BC", "5874897-12-31", "-infinity"],
    "time": ["24:00:00", "23:59:59.999999"],
    "timestamp": ["0044-03-15 12:00:00 BC", "294276-12-31 23:59:59.999999", "infinity"],
    "timestamptz": ["1900-01-01 00:19:32+00:19:32", "20260-11-22 18:05:03.123456+05:30 BC"],
    "interval": ["P-1Y-2M3DT-4H-5M-6.789S", "PT0S", "PT2562047788H54.775807S", "infinity"],
    "uuid": ["00112233-4455-6677-8899-aabbccddeeff"],
    "text": ["", "na\u00efve \U0001f600", "\x01\x1f\"\\"],
    "enum": ["play"],
    "json": ['{"a": [1, 2.50, null, "\\u00e9"]}', "1e400", "null"],
    "bytes": ["\\x00ff10", "\\x"],
}
BAD_TEXT = {"lone_tail": b"\x80", "overlong": b"\xc0\xaf", "surrogate": b"\xed\xa0\x80", "cut": b"a\xf0\x9f"}

ARRAYS = {
    "int32": ["{}", "{1,NULL,-3}", "[2:3]={5,6}", "{{1,2},{3,4}}", "[1:1][2:3]={{1,2}}"],
    "text": ['{a,"b c","","NULL",NULL}', '{"a\\"b","c\\\\d","{e}","f,g"}'],
    "bytes": ['{"\\\\x00ff",NULL}'],
    "decimal4_2": ["{1.50,NaN}"],
    "timestamptz": ['{"1970-01-01 00:00:01+00"}'],
    "json": ['{"{\\"a\\": 1}"}'],
}


def write(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def typed(kind, text):
    return bytes([TYPES.index(kind)]) + (text if isinstance(text, bytes) else text.encode())


def values():
    for kind, texts in VALUES.items():
        for number, text in enumerate(texts):
            write("value", f"{kind}_{number}", typed(kind, text))
    for name, text in BAD_TEXT.items():
        write("value", f"text_not_utf8_{name}", typed("text", text))
    for kind, texts in ARRAYS.items():
        for number, text in enumerate(texts):
            write("array", f"{kind}_{number}", typed(kind, text))
    write("array", "text_not_utf8", typed("text", b'{"\xff"}'))


def copy_lines():
    write("copy_text", "plain", b"1\tplay\t2024-02-29\n")
    write("copy_text", "null_and_empty", b"\\N\t\t\\N\n")
    write("copy_text", "escapes", b"a\\tb\\nc\\\\d\\b\\f\\r\\v\n")
    write("copy_text", "cut_escape", b"a\\")
    write("copy_text", "unknown_escape", b"a\\x41")
    write("copy_text", "no_newline", b"1\t2")


# --- pgoutput -----------------------------------------------------------------------------------


def cstring(text):
    return text.encode() + b"\0"


def relation(oid, name, identity, columns):
    body = struct.pack(">I", oid) + cstring("public") + cstring(name) + identity.encode()
    body += struct.pack(">H", len(columns))
    for is_key, column, type_oid in columns:
        body += bytes([is_key]) + cstring(column) + struct.pack(">Ii", type_oid, -1)
    return b"R" + body


def values_of(row):
    data = struct.pack(">H", len(row))
    for value in row:
        if value is None or value is ...:
            data += b"n" if value is None else b"u"
        else:
            data += b"t" + struct.pack(">I", len(value)) + value.encode()
    return data


def begin(lsn, xid=7):
    return b"B" + struct.pack(">QQI", lsn, 1000, xid)


def commit(lsn):
    return b"C\0" + struct.pack(">QQQ", lsn, lsn + 8, 1000)


def insert(oid, row):
    return b"I" + struct.pack(">I", oid) + b"N" + values_of(row)


def update(oid, row, old=None, marker=b"K"):
    body = b"U" + struct.pack(">I", oid)
    if old is not None:
        body += marker + values_of(old)
    return body + b"N" + values_of(row)


def delete(oid, old, marker=b"K"):
    return b"D" + struct.pack(">I", oid) + marker + values_of(old)


def truncate(*oids):
    return b"T" + struct.pack(">IB", len(oids), 0) + b"".join(struct.pack(">I", o) for o in oids)


def message(prefix, content):
    return b"M\1" + struct.pack(">Q", 1) + cstring(prefix) + struct.pack(">I", len(content)) + content


def stream_start(xid, is_first):
    return b"S" + struct.pack(">IB", xid, is_first)


def stream_commit(xid, lsn):
    return b"c" + struct.pack(">IBQQQ", xid, 0, lsn, lsn + 8, 1000)


def stream_abort(xid, subxid):
    return b"A" + struct.pack(">II", xid, subxid)


def within(xid, bytes_):
    """As it stands in a stream block."""
    return bytes_[:1] + struct.pack(">I", xid) + bytes_[1:]


ITEM_COLUMNS = [(1, "id", 20), (0, "name", 25), (0, "at", 1184), (0, "payload", 3802), (0, "tags", 1007)]
ITEMS = relation(1001, "items", "d", ITEM_COLUMNS)
FULL = relation(1002, "full", "f", [(1, "id", 23), (1, "raw", 17)])
FOREIGN = relation(4711, "foreign", "d", [(1, "id", 23)])
ROW = ["1", "a name", "2024-02-29 12:00:00+00", '{"a": 1}', "{1,NULL,3}"]


def framed(*messages):
    return b"".join(struct.pack(">H", len(m)) + m for m in messages)


def pgoutput():
    seeds = {
        "insert": [begin(100), ITEMS, insert(1001, ROW), commit(100)],
        "insert_nulls": [begin(100), ITEMS, insert(1001, ["1", None, None, None, None]), commit(100)],
        "update_toast": [begin(100), ITEMS, update(1001, ["1", "b", None, ..., ...]), commit(100)],
        "update_key": [begin(100), ITEMS, update(1001, ROW, ["2", None, None, None, None]), commit(100)],
        "update_full": [begin(100), FULL, update(1002, ["1", ...], ["1", "\\xff"], b"O"), commit(100)],
        "delete": [begin(100), ITEMS, delete(1001, ["1", None, None, None, None]), commit(100)],
        "delete_full": [begin(100), FULL, delete(1002, ["1", "\\x00"], b"O"), commit(100)],
        "truncate": [begin(100), ITEMS, FULL, truncate(1001, 1002), commit(100)],
        "truncate_count_lies": [begin(100), b"T" + struct.pack(">IB", 0xFFFFFFFF, 0)],
        "length_lies": [begin(100), ITEMS, b"I" + struct.pack(">I", 1001) + b"N\0\5t\xff\xff\xff\xff1"],
        "foreign_table": [begin(100), FOREIGN, insert(4711, ["1"]), commit(100)],
        "two_transactions": [begin(100), ITEMS, insert(1001, ROW), commit(100), begin(200),
                             insert(1001, ROW), commit(200)],
        "commit_without_begin": [ITEMS, commit(100)],
        "begin_twice": [begin(100), begin(200)],
        "change_outside": [ITEMS, insert(1001, ROW)],
        "not_described": [begin(100), insert(1001, ROW), commit(100)],
        "bad_value": [begin(100), ITEMS, insert(1001, ["x", *ROW[1:]]), commit(100)],
        "bad_then_good": [begin(100), ITEMS, insert(1001, ["1", "\udcff".encode("utf-8", "surrogatepass")
                          .decode("latin-1"), None, None, None]), commit(100), begin(300), ITEMS,
                          insert(1001, ROW), commit(300)],
        "heartbeat": [begin(100), message("millrace", b"slot"), commit(100)],
        "origin_and_type": [begin(100), b"O" + struct.pack(">Q", 1) + cstring("o"),
                            b"Y" + struct.pack(">I", 9) + cstring("s") + cstring("t"), commit(100)],
        "altered": [begin(100), relation(1001, "items", "d", [(1, "id", 25)]), commit(100)],
        "unknown": [b"Z", b""],
    }  # fmt: skip
    for name, messages in seeds.items():
        write("pgoutput", name, framed(*messages))
    # From protocol 2 on: transactions in progress.
    items, row = within(7, ITEMS), insert(1001, ROW)
    streams = {
        "streamed": [stream_start(7, 1), items, within(7, row), b"E", stream_start(7, 0),
                     within(8, row), b"E", stream_abort(7, 8), stream_commit(7, 100)],
        "streamed_interleaved": [stream_start(7, 1), items, within(7, row), b"E", stream_start(9, 1),
                                 within(9, ITEMS), within(9, row), b"E", begin(100, 10), ITEMS, row,
                                 commit(100), stream_commit(9, 200), stream_abort(7, 7)],
        "streamed_message": [stream_start(7, 1), within(7, message("millrace", b"slot")), b"E",
                             stream_commit(7, 100)],
        "streamed_large": [stream_start(7, 1), items, within(7, FULL), *[within(7, row)] * 20,
                           *[within(8, insert(1002, ["1", "\\xff"]))] * 10, within(9, row), b"E",
                           stream_abort(7, 9), stream_commit(7, 100)],
        "large": [begin(100), FULL, *[insert(1002, ["1", "\\xff"])] * 20, commit(100)],
        "stream_stop_without_start": [b"E"],
        "stream_in_stream": [stream_start(7, 1), stream_start(8, 1)],
        "stream_commit_unknown": [stream_commit(7, 100)],
        "stream_abort_unknown": [stream_abort(7, 8)],
        "prepared": [b"b" + struct.pack(">QQQI", 1, 2, 3, 7) + cstring("gid")],
    }  # fmt: skip
    for name, messages in streams.items():
        write("pgoutput", name, framed(*messages))
    for name, bytes_ in {"items": ITEMS, "full": FULL, "no_columns": relation(1, "t", "n", []),
                         "cut": ITEMS[:-3], "count_lies": ITEMS[:20] + b"\xff\xff"}.items():  # fmt: skip
        write("relation_message", name, bytes_[1:])


# --- data_dir -----------------------------------------------------------------------------------

RECORD = """
4d 52 4f 01 00 01 00 00 0a 00 00 00 00 00 00 00 0c 00 00 00 00 00 00 00 48 d8 74 b3 16 00 00 00
3a 00 00 00 00 00 00 00 d0 07 cd d0 01 01 02 01 02 01 90 e1 a6 b7 d6 05 80 80 f2 81 83 89 85 06
e9 05 01 01 02 01 00 02 06 01 02 01 02 00 2a 00 00 00 00 00 00 00 2b 00 00 00 00 00 00 00 01 fd
04 00 70 61 69 64
"""


def varint(number):
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(data) + bytes([number])


def stored():
    record = bytes.fromhex(RECORD.replace("\n", " "))
    write("output_record", "documented", record)
    write("output_record", "cut", record[:70])
    write("output_record", "rows_lie", record[:48] + varint(2**40) + record[49:])
    write("output_record", "size_lies", record[:32] + struct.pack("<Q", 2**31 - 1) + record[40:])
    write("output_record", "lz4_size_lies", record[:4] + b"\1" + record[5:32]
          + struct.pack("<Q", 2**31 - 1) + record[40:])  # fmt: skip
    # Format 1, version 1, columns, a bitmap of NULLs, values.
    write("state_row", "bool_and_int16", bytes([2, 1, 1, 2, 0, 1, 0x2A, 0]))
    write("state_row", "all_null", bytes([20, 1, 1, 20, 0xFF, 0xFF, 0x0F]))
    write("state_row", "length_lies", bytes([17, 1, 1, 17, 0xFF, 0xFF, 0]) + varint(2**40))
    write("state_row", "list_lies", bytes([21, 1, 1, 21, 0xFF, 0xFF, 0x0F]) + varint(2**40))
    write("state_row", "newer_format", bytes([1, 9, 1]))


    # The example of docs/formats/data_dir.md; then what it may not be.
    stream = bytes.fromhex(
        "01 00 01 02 06 6f 72 64 65 72 73 02 02 69 64 05 00 04 6e 6f 74 65 15 01 01 00"
    )
    write("stored_stream", "documented", stream)
    write("stored_stream", "columns_lie", stream[:11] + varint(2**40) + stream[12:])
    write("stored_stream", "deep_list", stream[:15] + b"\x19" * 200)
    write("stored_stream", "decimal", stream[:15] + b"\x0e\x26\x0a" + stream[16:])
    write("stored_stream", "key_lies", stream[:-1] + varint(2**31))


def resp():
    seeds = {
        "simple": b"+OK\r\n-ERR unknown command\r\n:42\r\n$5\r\nhello\r\n$-1\r\n",
        "transaction": b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n$3\r\n1-1\r\n",
        "nested": b"*2\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n*0\r\n",
        "nil_array": b"*-1\r\n",
        "bulk_lies": b"$2147483647\r\nx",
        "array_lies": b"*2147483647\r\n:1\r\n",
        "deep": b"*1\r\n" * 40,
        "not_resp": b"HTTP/1.1 200 OK\r\n",
    }
    for name, data in seeds.items():
        write("resp", name, b"\xff" + data)
        write("resp", f"{name}_bytewise", b"\0" + data)


if __name__ == "__main__":
    values()
    copy_lines()
    pgoutput()
    stored()
    resp()
