# SPDX-License-Identifier: Apache-2.0
"""Values of every PostgreSQL type, and what each must be in the sinks.

PostgreSQL is the oracle: a value is written as SQL text, read back as PostgreSQL prints it, and that
text is put into the form that the documentation promises for JSON. The sinks are compared with that.
"""

import base64
import json
import re
import struct
from decimal import Decimal

# Since 15: numeric scales that are negative or above the precision.
NUMERIC_SCALES = 15
INFINITE_INTERVALS = 17
NULL = None


class Column:
    """A column: its SQL type, how its values compare, and the SQL texts that are tried first.

    `draw(random)` gives the SQL text of a random value. `element` is the form of an array's elements.
    `since` is the first version of PostgreSQL that has the type.
    """

    def __init__(self, name, sql_type, form, edges, draw, element=None, since=0):
        self.name, self.sql_type, self.form = name, sql_type, form
        self.edges, self.draw, self.element, self.since = edges, draw, element, since


# --- Random values ------------------------------------------------------------------------------

LETTERS = "abc XYZ019_-'\"\\,{}()[]:;=\t\n\r\b\x01%$\u00e9\u4e2d\u2028\U0001f600"


def text(random, size=24):
    return "".join(random.choice(LETTERS) for _ in range(random.randrange(size)))


def word(random):
    return "".join(random.choice("abcdefgh") for _ in range(random.randrange(1, 9)))


def integer(bits):
    def draw(random):
        value = random.getrandbits(random.randrange(1, bits))
        return str(value if random.random() < 0.5 else -value - 1)

    return draw


def digits(precision, scale):
    """A number of up to `precision` digits, `scale` of them behind the point."""

    def draw(random):
        value = random.randrange(10 ** random.randrange(1, precision + 1))
        return f"{random.choice(['', '-'])}{Decimal(value).scaleb(-scale):f}"

    return draw


def float_of(format_, size):
    def draw(random):
        return repr(struct.unpack(format_, random.randbytes(size))[0])

    return draw


def date(first, last):
    """A date of the years `first` to `last`; those before 1 are BC."""

    def draw(random):
        year = random.randrange(first, last + 1)
        era = "" if year > 0 else " BC"
        year = year if year > 0 else 1 - year
        return f"{year:04d}-{random.randrange(1, 13):02d}-{random.randrange(1, 29):02d}{era}"

    return draw


def clock(random):
    fraction = random.choice(["", f".{random.randrange(10 ** 6):06d}"])
    return f"{random.randrange(24):02d}:{random.randrange(60):02d}:{random.randrange(60):02d}{fraction}"


def timestamp(first, last, zone=False):
    def draw(random):
        day, _, era = date(first, last)(random).partition(" ")
        offset = random.choice(["+00", "-03:30", "+05:45", "+14"]) if zone else ""
        return f"{day} {clock(random)}{offset}{' ' + era if era else ''}"

    return draw


def interval(random):
    parts = [f"{random.randrange(-9999, 9999)} {unit}"
             for unit in ("years", "months", "days", "hours", "minutes")]  # fmt: skip
    parts.append(f"{random.randrange(-10 ** 12, 10 ** 12)} microseconds")
    return " ".join(part for part in parts if random.random() < 0.6) or "0"


def uuid(random):
    return f"{random.getrandbits(128):032x}"


def hex_bytes(random):
    return "\\x" + random.randbytes(random.randrange(40)).hex()


def document(random, depth=3):
    kind = random.randrange(8 if depth else 5)
    if kind < 5:
        return random.choice([
            "null", "true", json.dumps(text(random)), str(random.getrandbits(100)),
            f"{random.randrange(10 ** 9)}.{random.randrange(10 ** 30):030d}",
        ])  # fmt: skip
    parts = [document(random, depth - 1) for _ in range(random.randrange(4))]
    if kind == 5:
        return f"[{', '.join(parts)}]"
    return "{" + ", ".join(f"{json.dumps(text(random))}:  {part}" for part in parts) + "}"


def one_of(*values):
    return lambda random: random.choice(values)


def array(draw, nulls=True):
    """One dimension, sometimes empty, sometimes with a lower bound of its own."""

    def literal(random):
        elements = []
        for _ in range(random.randrange(5)):
            if nulls and random.random() < 0.2:
                elements.append("NULL")
            else:
                escaped = draw(random).replace("\\", "\\\\").replace('"', '\\"')
                elements.append(f'"{escaped}"')
        bounds = ""
        if elements and random.random() < 0.2:
            first = random.randrange(-3, 4)
            bounds = f"[{first}:{first + len(elements) - 1}]="
        return f"{bounds}{{{','.join(elements)}}}"

    return literal


def pair(random):
    return f"({random.randrange(100)},{json.dumps(word(random))})"


# --- The columns --------------------------------------------------------------------------------

PREPARE = """
CREATE EXTENSION citext SCHEMA public; CREATE EXTENSION hstore SCHEMA public;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'so, "happy"', '');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN price AS numeric(12,3);
CREATE DOMAIN low_price AS price CHECK (VALUE < 1000000);
CREATE DOMAIN moods AS mood[];
CREATE DOMAIN code AS char(6);
CREATE SCHEMA hostile; CREATE TABLE hostile.pg_class (id int);
"""
# What ALTER ROLE sets for the role that the pipeline connects as.
HOSTILE_SETTINGS = {
    "DateStyle": "'German'", "IntervalStyle": "'sql_standard'", "extra_float_digits": "-15",
    "TimeZone": "'Asia/Kathmandu'", "bytea_output": "'escape'", "lc_monetary": "'C.UTF-8'",
    "search_path": "hostile, public", "quote_all_identifiers": "on", "xmloption": "'document'",
    "client_encoding": "'LATIN1'", "standard_conforming_strings": "off",
    "default_transaction_read_only": "on", "default_transaction_isolation": "'serializable'",
    "transform_null_equals": "on", "array_nulls": "off",
}  # fmt: skip

MOODS = ["sad", "ok", 'so, "happy"', ""]
COLUMNS = [
    Column("b", "bool", "bool", ["t", "f"], one_of("t", "f")),
    Column("i2", "int2", "integer", ["-32768", "32767", "0"], integer(16)),
    Column("i4", "int4", "integer", ["-2147483648", "2147483647"], integer(32)),
    Column("i8", "int8", "integer", ["-9223372036854775808", "9223372036854775807"], integer(64)),
    Column("f4", "float4", "float4",
           ["0", "-0", "1e-45", "3.4028235e38", "NaN", "Infinity", "-Infinity", "0.1"],
           float_of("<f", 4)),
    Column("f8", "float8", "float8",
           ["0", "-0", "5e-324", "2.2250738585072014e-308", "1.7976931348623157e308", "NaN",
            "Infinity", "-Infinity", "0.30000000000000004"], float_of("<d", 8)),
    Column("n10_2", "numeric(10,2)", "decimal", ["99999999.99", "-99999999.99", "0.00", "-0.01"],
           digits(10, 2)),
    Column("n4_4", "numeric(4,4)", "decimal", ["0.9999", "-0.0001"], digits(4, 4)),
    Column("n18", "numeric(18)", "decimal", ["999999999999999999"], digits(18, 0)),
    Column("n38_10", "numeric(38,10)", "decimal",
           ["9999999999999999999999999999.9999999999", "-0.0000000001"], digits(38, 10)),
    Column("n40", "numeric(40,2)", "text", ["99999999999999999999999999999999999999.99", "NaN"],
           digits(40, 2)),
    Column("nfree", "numeric", "text",
           ["9" * 131072 + "." + "9" * 16383, "NaN", "Infinity", "-Infinity", "0.0000", "1e-16383",
            "1e131071"], digits(60, 20)),
    Column("nneg", "numeric(5,-2)", "text", ["9999900", "-100"], integer(20), since=NUMERIC_SCALES),
    Column("nfrac", "numeric(3,5)", "text", ["0.00999"], one_of("0.00123", "-0.00001"),
           since=NUMERIC_SCALES),
    Column("t", "text", "text", ["", "NULL", "\\N", "\\.", LETTERS, "x" * 70000], text),
    Column("vc", "varchar(20)", "text", ["", " a "], lambda random: text(random, 20)),
    Column("bp", "char(8)", "text", ["", "ab", "12345678"], lambda random: text(random, 8)),
    Column("cd", "public.code", "text", ["x"], word),
    Column("ci", "public.citext", "text", ["MiXeD"], text),
    Column("nm", "name", "text", ["", "n" * 63], word),
    Column("x", "xml", "text", ["<a/>", "content"], one_of('<a b="c">\u00e9</a>', "plain")),
    Column("en", "public.mood", "text", MOODS, one_of(*MOODS)),
    Column("u", "uuid", "text", ["00000000-0000-0000-0000-000000000000", "f" * 32], uuid),
    Column("d", "date", "date", ["1900-01-01", "2299-12-31", "1970-01-01"], date(1901, 2298)),
    Column("ts", "timestamp", "timestamp", ["1900-01-01 00:00:00", "2299-12-31 23:59:59.999999"],
           timestamp(1901, 2298)),
    Column("tz", "timestamptz", "timestamptz",
           ["1900-01-01 00:00:00+00", "2299-12-31 23:59:59.999999+00"],
           timestamp(1901, 2298, zone=True)),
    Column("tm", "time", "text", ["00:00:00", "24:00:00", "23:59:59.999999"], clock),
    Column("tmz", "timetz", "text", ["24:00:00-15:59:59", "00:00:00+15:59"],
           lambda random: clock(random) + random.choice(["+00", "-07:30"])),
    Column("iv", "interval", "text",
           ["0", "178956970 years 7 months", "-178956970 years -8 months", "2147483647 days",
            "1 year -2 mons 3 days -04:05:06.7", "-1 microsecond", "-00:00:01.5",
            "2562047788:00:54.775807"], interval),
    Column("j", "json", "json", ["null", ' {"a" :\n 1, "a": 2} ', "1e400", '"\\u0000"'], document),
    Column("jb", "jsonb", "json", ["null", "[1.10, 1e400]", "9" * 500, "{}", '"\\u00e9"'], document),
    Column("by", "bytea", "bytes", ["\\x", "\\x00", "\\x" + bytes(range(256)).hex()], hex_bytes),
    Column("pr", "public.low_price", "decimal", ["999999.999"], digits(9, 3)),
    Column("ch", '"char"', "text", ["a", "\\377", ""], one_of("a", "b", "\\200")),
    Column("o", "oid", "text", ["4294967295", "0"], lambda random: str(random.getrandbits(32))),
    Column("xi", "xid", "text", ["4294967295"], lambda random: str(random.getrandbits(32))),
    Column("mo", "money", "text", ["-92233720368547758.08", "0"], digits(12, 2)),
    Column("bi", "bit(5)", "text", ["00000"], lambda random: f"{random.getrandbits(5):05b}"),
    Column("vb", "varbit", "text", ["", "1" * 99], lambda random: f"{random.getrandbits(9):b}"),
    Column("ine", "inet", "text", ["::1", "10.0.0.1/8"], one_of("192.168.0.1", "2001:db8::/32")),
    Column("cid", "cidr", "text", ["10.0.0.0/8"], one_of("0.0.0.0/0", "::/0")),
    Column("mac", "macaddr8", "text", ["08:00:2b:01:02:03:04:05"], one_of("08002b0102030405")),
    Column("pt", "point", "text", ["(0.1,-1e-300)", "(NaN,Infinity)"], one_of("(1,2)", "(3.5,0.1)")),
    Column("bx", "box[]", "text", ["{(1,1),(0,0);(2,2),(1,1)}"], one_of("{(3,3),(1,1)}", "{}")),
    Column("r", "int4range", "text", ["empty", "(,)", "[1,5)"], one_of("[3,9]", "(,4]")),
    Column("tr", "tstzrange", "text", ["empty"],
           one_of('["2024-02-29 12:00:00+05:45",infinity]', "[2000-01-01,)")),
    Column("mr", "int4multirange", "text", ["{}", "{[1,3),[5,7)}"], one_of("{[2,4)}")),
    Column("cp", "public.pair", "text", ["(,)", '(1,"a,""b")'], pair),
    Column("cps", "public.pair[]", "text", ['{"(1,a)",NULL}'], array(pair)),
    Column("hs", "public.hstore", "text", ['"a"=>NULL, "b"=>"\\"c"'],
           lambda random: f"{word(random)}=>{word(random)}"),
    Column("tv", "tsvector", "text", ["'a':1A 'it''s'"], word),
    Column("rc", "regclass", "text", ["hostile.pg_class", "pg_catalog.pg_class"],
           one_of("pg_type", "hostile.pg_class")),
    Column("lsn", "pg_lsn", "text", ["FFFFFFFF/FFFFFFFF"],
           lambda random: f"{random.getrandbits(32):X}/{random.getrandbits(32):X}"),
    Column("ai", "int4[]", "array", ["{}", "{NULL}", "[-2:-1]={1,2}"], array(integer(32)), "integer"),
    Column("ab", "bool[]", "array", ["{t,NULL,f}"], array(one_of("t", "f")), "bool"),
    Column("af", "float8[]", "array", ["{NaN,-0,5e-324}"], array(float_of("<d", 8)), "float8"),
    Column("an", "numeric(8,3)[]", "array", ["{1.5,-99999.999}"], array(digits(8, 3)), "decimal"),
    Column("anf", "numeric[]", "array", ["{NaN,1e-100}"], array(digits(50, 10)), "text"),
    Column("at", "text[]", "array", ['{"",NULL,"NULL","null","{}","a,b","c\\\\d\\"e"}'], array(text),
           "text"),
    Column("abp", "char(4)[]", "array", ["{a,NULL}"], array(lambda random: word(random)[:4]), "text"),
    Column("aen", "public.mood[]", "array", ['{"",sad}'], array(one_of(*MOODS)), "text"),
    Column("mos", "public.moods", "array", ["{ok}"], array(one_of(*MOODS)), "text"),
    Column("apr", "public.low_price[]", "array", ["{1}"], array(digits(8, 3)), "decimal"),
    Column("ad", "date[]", "array", ["{1900-01-01,NULL}"], array(date(1901, 2298)), "date"),
    Column("atz", "timestamptz[]", "array", ["{}"], array(timestamp(1901, 2298, zone=True)),
           "timestamptz"),
    Column("aiv", "interval[]", "array", ["{1 mon -1 day}"], array(interval), "text"),
    Column("au", "uuid[]", "array", ["{}"], array(uuid), "text"),
    Column("ajb", "jsonb[]", "array", ['{"null",NULL,"[1,2]"}'], array(document), "json"),
    Column("aby", "bytea[]", "array", ['{"\\\\x00ff",NULL}'], array(hex_bytes), "bytes"),
    Column("a2", "int4[][]", "text", ["{{1,2},{3,NULL}}", "{}", "[0:0][2:3]={{1,2}}"],
           one_of("{{5},{6}}", "{7,8}")),
]  # fmt: skip

# Values that ClickHouse's types do not hold: there each is kept as its text.
WIDE_COLUMNS = [
    Column("d", "date", "date",
           ["infinity", "-infinity", "4714-11-24 BC", "5874897-12-31", "0001-01-01", "0001-12-31 BC",
            "1582-10-10", "0004-02-29"], date(-4712, 12000)),
    Column("ts", "timestamp", "timestamp",
           ["infinity", "-infinity", "4714-11-24 00:00:00 BC", "294247-01-10 04:00:54.775805",
            "1899-12-31 23:59:59.999999"], timestamp(-4712, 290000)),
    Column("tz", "timestamptz", "timestamptz",
           ["infinity", "-infinity", "4714-11-24 00:00:00+00 BC", "1883-11-18 12:03:58-04:56:02",
            "2016-12-31 23:59:60+00"], timestamp(-4712, 290000, zone=True)),
    Column("n", "numeric(8,2)", "decimal", ["NaN", "999999.99"], digits(8, 2)),
    Column("n3", "numeric(3)", "decimal", ["NaN"], digits(3, 0)),
    Column("n18", "numeric(18,4)", "decimal", ["NaN"], digits(18, 4)),
    Column("n38", "numeric(38,5)", "decimal", ["NaN"], digits(38, 5)),
    Column("iv", "interval", "text", ["infinity", "-infinity"], interval, since=INFINITE_INTERVALS),
    Column("an", "numeric(20,3)[]", "array", ["{NaN,1.5,NULL}"], array(digits(20, 3)), "decimal"),
    Column("ad", "date[]", "array", ["{infinity,NULL,-infinity}"], array(date(-4712, 12000)), "date"),
    Column("atz", "timestamptz[]", "array", ["{infinity}"],
           array(timestamp(-4712, 290000, zone=True)), "timestamptz"),
]  # fmt: skip


# --- From PostgreSQL's text to what JSON must hold ------------------------------------------------


def iso_day(day, era):
    year, month, day = day.split("-")
    number = 1 - int(year) if era else int(year)
    if 0 <= number <= 9999:
        return f"{number:04d}-{month}-{day}"
    return f"{'-' if number < 0 else '+'}{abs(number):06d}-{month}-{day}"


def iso_time(printed):
    """An ISO 8601 date or timestamp, of PostgreSQL's ISO style at time zone UTC."""
    if printed in ("infinity", "-infinity"):
        return printed
    day, clock_, zone, era = re.fullmatch(
        r"(\d+-\d\d-\d\d)( \d\d:\d\d:\d\d(?:\.\d+)?)?(\+00)?( BC)?", printed
    ).groups()
    return iso_day(day, era) + (f"T{clock_[1:]}" if clock_ else "") + ("Z" if zone else "")


class Number(str):
    """A number of JSON, as it is written."""


def as_json(form, printed, element=None):
    """The JSON value that PostgreSQL's text `printed` must become."""
    if printed is None:
        return None
    if form in ("date", "timestamp", "timestamptz"):
        return iso_time(printed)
    if form == "bool":
        return printed in ("t", "true")
    if form == "integer":
        return Number(printed)
    if form in ("float4", "float8"):
        return printed if printed in ("NaN", "Infinity", "-Infinity") else Number(printed)
    if form == "bytes":
        return base64.b64encode(bytes.fromhex(printed[2:])).decode()
    if form == "json":
        return load_json(printed)
    if form == "array":
        return [as_json(element, value) for value in json.loads(printed)]
    return printed  # text, and the digits of a decimal


def load_json(text_):
    return json.loads(text_, parse_int=Number, parse_float=Number, object_pairs_hook=list)


def bits(form, number):
    return struct.pack("<f" if form == "float4" else "<d", float(number))


def same(form, want, have, element=None):
    """Whether a JSON value is the expected one; floats by their bits."""
    if form == "array" and isinstance(want, list) and isinstance(have, list):
        return len(want) == len(have) and all(same(element, *both) for both in zip(want, have))
    if isinstance(want, Number) != isinstance(have, Number):
        return False
    if form in ("float4", "float8") and isinstance(want, Number):
        return bits(form, want) == bits(form, have)
    return want == have
