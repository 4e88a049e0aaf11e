#!/usr/bin/env python3
"""Inputs to begin with, from what the project has: recorded queries, settings, frames. fuzz/run.sh runs it before it fuzzes.

    fuzz/seed.py DIR       a folder per target in DIR
"""

import hashlib
import json
import pathlib
import re
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
out = pathlib.Path(sys.argv[1])


def put(target, *inputs):
    folder = out / target
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        data = data.encode() if isinstance(data, str) else data
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# Queries that a real RethinkDB answered, over the tables of the target's database as well.
for line in (ROOT / "tests/data/reql/cases.jsonl").read_text().splitlines():
    query = json.loads(line)["query"]
    put("meta_query", compact(query), re.sub(r"\[15,\[(\[14,\[[^\]]*\]\],)?\"[^\"]*\"\]", '[15,["t"]', compact(query)))
    body = compact(query).encode()
    put("reql_wire", b"\2" + struct.pack("<qI", 1, len(body)) + body)
answer = b'{"t":1,"r":[{"a":1}],"n":[]}'
hello = b'{"protocol_version":0,"authentication_method":"SCRAM-SHA-256","authentication":"n,,n=admin,r=abc"}\0{"authentication":"c=biws,r=abcd,p=AAAA"}\0'
versions = b'{"success":true,"min_protocol_version":0,"max_protocol_version":0,"server_version":"2.4.4"}\0{"success":true,"authentication":"r=abcd,s=c2FsdA==,i=4096"}\0'
put("reql_wire", b"\2" + struct.pack("<qI", -1, len(answer)) + answer, b"\0" + struct.pack("<I", 0x34C2BDC3) + hello, b"\1" + versions,
    b"\1ERROR: no\0", b'\1{"success":false,"error":"no","error_code":12}\0', b"\3n,,n=admin,r=abc\0c=biws,r=\1,p=" + b"A" * 43 + b"=",
    b"\3r=\1abcd,s=c2FsdA==,i=16\0v=" + b"A" * 43 + b"=")


def text(s):
    s = s.encode()
    return bytes([0xA0 | len(s)]) + s if len(s) < 32 else b"\xd9" + bytes([len(s)]) + s


columns = b"\x93\x00\xc0\x92" + text("segment") + text("a rather long name of a column, over thirty-two")
values = b"\x01\xff\xcd\x01\x00\xce\x00\x01\x00\x00\xcf\x00\x00\x00\x01\x00\x00\x00\x00\xd0\x80\xd1\x80\x00\xd2\x80\x00\x00\x00\xd3" + b"\x80" + b"\0" * 7
values += b"\xcb\x3f\xf8\0\0\0\0\0\0\xc0\xa1x\xd9\x02ab\xda\x00\x01c\xc4\x01\xff\xd4\x01\xff\xc7\x03\x01\xff\xfe\xfd"
rows = b"\x94\x01\x03\x02\xc4" + bytes([len(values)]) + values
error = b"\x95\x02\x07" + text("moved") + text("gone") + text("http://h:1/")
end = b"\x92\x09\x85" + b"".join(text(k) + b"\x01" for k in ("ok", "failed", "rows", "bytes", "micros"))
put("query_frames", columns, rows, values, error, b"\x92\x03\xcd\x01\x00", b"\x93\x08" + text("internal") + text("no"), end, columns + rows + error + end,
    b"<html>502 Bad Gateway</html>")

put("query_frames", '{"segments":["a","b"],"map":"SELECT ?1","reduce":"SELECT 1","params":[null,1,1.5,"x",{"blob":"AA=="},{"real":"-inf"}],"max_rows":9,"bytewise":true}',
    '{"writes":[{"segment":"a","statements":[{"sql":"s","rows":[[1],["x"]],"each":1},{"sql":"s","packed":{"count":2,"columns":1,"data":"AcA="}}]}],"deadline_ms":5}',
    '{"results":[{"changes":1,"returned":[[1]]},{"error":{"code":"moved","message":"m","hint":"h"}},{"changes":0,"packed":{"count":1,"columns":1,"data":"AQ=="}}]}',
    b"\x82" + text("segments") + b"\x91" + text("a") + text("map") + text("SELECT 1"),
    b"\x81" + text("writes") + b"\x91\x82" + text("segment") + text("a") + text("statements") + b"\x91\x82" + text("sql") + text("s") + text("packed")
    + b"\x83" + text("count") + b"\x01" + text("columns") + b"\x01" + text("data") + b"\xc4\x01\xc0")


def real(r):
    return b"\xcb" + struct.pack(">d", r)


# The first byte is the number of columns less one; then a type and its options each: as COLUMNS in the target has them.
stored = {0: [b"\x00", b"\x01"], 1: [b"\xcd\x7f\xff"], 2: [b"\xd2\x80\x00\x00\x00"], 3: [values[1:2], b"\xd3" + b"\x80" + b"\0" * 7], 4: [real(1.5), b"\x07"],
    5: [real(1e300)], 6: [text("é"), b"\xc7\x02\x01\xffa", text("a\0b")], 7: [b"\x05", real(0.1), text("x")], 8: [b"\xc4\x02\xff\x00"], 9: [text("2026-02-28")],
    10: [b"\xce\x65\x00\x00\x00", real(-0.5)], 11: [b"\xd3\x00\x05\x00\x00\x00\x00\x00\x00"], 12: [real(2451545.25)],
    13: [text("2026-01-01T10:20:30.123456"), text("2026-01-01 10:20")], 14: [text("2026-01-01T10:20:30.123456Z"), text("2026-01-01T10:20:30,5+02:30")],
    15: [b"\xce\x65\x00\x00\x00", real(1.7e9 + 0.25), real(float("inf"))], 16: [real(1.7e12 + 0.5)], 17: [real(1.7e15)], 18: [real(2451545.0), b"\xce\x00\x25\x68\x59"],
    19: [text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), text("{a0eebc999c0b4ef8bb6d6bb9bd380a11}")], 20: [b"\xc4\x10" + bytes(range(16))], 21: [real(2.5), b"\x05", text("1e3")],
    22: [text("{}"), b"\xd4\x01\xff"]}
for code, items in stored.items():
    for options in (0, 1, 2, 0x80):
        put("results", bytes([0, code, options]) + b"".join(items))
put("results", bytes([2, 3, 0, 6, 0, 15, 0]) + (b"\x01" + text("x") + real(1.5)) * 3, b"\x08" + bytes(48) + bytes(48), b"\x08" + b"\x7f" * 96,
    b"\x08" + struct.pack(">6d", 3, 1, 2, 2, 4, 5), b"\x08" + struct.pack(">12d", 3, 1, 2, 2, 4, 5, 3, 1, 2, 2, 4, 5),
    b'\x09[{"b": 1, "a": "x"},\n{"b": 2.5, "a": null}]\n', b"\x09[]\n", b'\x09[{"a": {"real": "inf"}}]')

put("settings", *(path.read_text() for path in (ROOT / "docker/settings.yml", ROOT / "packaging/settings.yml")))
keys = re.findall(r'key\(\s*"([A-Z_]+)",\s*"([^"]*)"', (ROOT / "daemons/trough/config/src/keys.rs").read_text())
put("settings", *(f"{name}: {default}" for name, default in keys), *(f"\f{name}={default}" for name, default in keys))
put("settings", 'MINIMUM_ASSIGNMENTS: "lambda segment_id: 1 if segment_id.startswith(\'a\') else 2"', "STORAGE_IN_BYTES: 16*1024**3", "STORAGE_IN_BYTES: 1.5 GiB",
    "TOKENS: [{token: a, role: admin}, {token_sha256: '', role: read}]\nANONYMOUS: read\nLISTEN: '::1'\nTLS_CERT: a\nTLS_KEY: b",
    "COLD_STORE_SEGMENT: int(segment_id) < 1000\nSTORE: s3://b/p\nSTORE_OPTIONS: {a: 1, b: true}\nRETHINKDB_HOSTS: [a, 'b:1']")

put("expressions", "1", "true", 'segment_id.startsWith("a") ? 1 : 2', "int(segment_id) < 1000", "size(segment_id) + 1", 'segment_id.matches("^[0-9]+$")',
    'segment_id in ["a", "b"]', "[1, 2].map(x, x * 2)[0]", '{"a": 1}["a"]', "1 / 0", "-9223372036854775808 / -1", "dyn(1u) + 2u", 'duration("1h")',
    'timestamp("2026-01-01T00:00:00Z").getFullYear()', "[1].all(x, x > 0)", "has({'a': 1}.a)", "1.0 % 2.0", '"a" + "b"', "b'a'", "!true || false && true")

for id, pattern in (("300124", "^300"), ("archive-1", "^(?:archive|web)-\\d+$"), ("é中😀", "^é"), ("a:b", "a.b$"), ("x", "^x{2,}|y"), ("a b", "^\\Qa b\\E"), ("A", "(?i)^a")):
    put("segments", id + pattern, id.encode() + pattern.encode() + bytes([len(id.encode())]))
