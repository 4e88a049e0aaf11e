"""Without a terminal: -c, pipes, formats and exit codes."""

import csv
import io
import json
import subprocess

import harness
import pytest
import terminal


def test_commands_run_in_turn_until_one_fails(dev, data):
    done = terminal.run(dev.url, "-c", "connect d-2", "-c", "select status, count(*) n from crawl_log group by 1",
                        "-c", "select 1 from nowhere", "-c", "select 1")
    assert done.returncode == 1
    assert done.stdout.splitlines()[:6] == ["+--------+---+", "| status | n |", "+--------+---+", "|    200 | 2 |", "|    404 | 1 |", "+--------+---+"]
    assert "2 total results in " in done.stdout and done.stdout.count("total results") == 1
    assert done.stderr.startswith("error: ") and "d-2" in done.stderr and "nowhere" in done.stderr


def test_exit_codes(dev, data):
    assert terminal.run(dev.url, "-c", "connect d-1; select 1;").returncode == 0
    assert terminal.run(dev.url, "d-1", "-c", "quit", "-c", "select 1 from nowhere").returncode == 0
    for failing in ["frobnicate", "select 1", "show", "connect matching ^nothing$", "shred segment d-1"]:
        assert terminal.run(dev.url, "-c", failing).returncode == 1, failing
    for usage in [["--nothing"], ["-f", "xml"], ["../x"], ["-s", "a/b"]]:
        done = terminal.run(dev.url, *usage, "-c", "help")
        assert done.returncode == 2 and done.stderr and not done.stdout, done
    assert "Usage: trough shell [-u rethinkdb://" in terminal.run(dev.url, "--nothing").stderr
    assert terminal.run("http://x", "-c", "help").returncode == 2
    assert terminal.run("rethinkdb://127.0.0.1:1/trough_configuration", "-c", "show segments").returncode == 1


def test_the_usage_line(dev):
    done = terminal.run(dev.url, "--help")
    assert ("Usage: trough shell [-u rethinkdb://host[:port][,host…]/database] [-w] [-s SCHEMA] [-c COMMAND] [segment…]"
            in " ".join(done.stdout.split())), done.stdout


def test_pipes_take_statements_of_several_lines(dev, data):
    script = """connect d-1 d-2
-- a comment; and nothing else
select status,
       count(*) as n   -- ; not the end
from crawl_log group by status;
merge select count(*) as n from crawl_log; format ndjson
merge select count(*) as n
from crawl_log"""
    done = terminal.run(dev.url, input=script)
    assert done.returncode == 0, done
    first, second = done.stdout.index("results from segment d-1"), done.stdout.index("results from segment d-2")
    assert first < second < done.stdout.index("| 5 |")
    assert done.stdout.splitlines()[-1] == '{"n":5}'


def test_csv(dev, data):
    done = terminal.run(dev.url, "-f", "csv", *data, "-c", "select status, count(*) n, max(url) u from crawl_log group by 1")
    assert done.returncode == 0
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {(r["segment"], r["status"], r["n"]) for r in rows} == (
        {(s, "200", str(n)) for n, s in enumerate(data, 1)} | {(s, "404", "1") for s in data})
    assert {r["u"] for r in rows if r["status"] == "404"} == {""}
    single = terminal.run(dev.url, "-f", "csv", "d-1", "-c", "select status from crawl_log order by 1")
    assert single.stdout == "status\n200\n404\n" and single.stderr == ""


def test_json(dev, data):
    raw = terminal.run(dev.url, "-f", "raw", "d-3", "-c", "select status, url from crawl_log order by 1, 2")
    rows = json.loads(raw.stdout)
    assert len(rows) == 4 and rows[0] == {"status": 200, "url": "http://d-3/0"} and raw.stdout.count("\n") == 1
    pretty = terminal.run(dev.url, "-f", "PRETTY", "d-3", "-c", "select status, url from crawl_log order by 1, 2")
    assert json.loads(pretty.stdout) == rows and pretty.stdout.count("\n") > 10
    lines = terminal.run(dev.url, "-f", "ndjson", *data, "-c", "select count(*) as n from crawl_log").stdout.splitlines()
    assert sorted((r["segment"], r["n"]) for r in map(json.loads, lines)) == [(s, n + 1) for n, s in enumerate(data, 1)]
    clash = terminal.run(dev.url, "-f", "ndjson", "d-1", "d-2", "-c", "select 1 as segment")
    assert sorted(json.loads(line)["_segment"] for line in clash.stdout.splitlines()) == ["d-1", "d-2"]


MERGES = [
    ("select count(*), status from crawl_log group by status order by status", [[21, 200], [6, 404]]),
    ("select count(*) n, sum(status) s, total(status) t, min(status), max(url) from crawl_log",
     [[27, 21 * 200 + 6 * 404, 21 * 200.0 + 6 * 404, 200, "http://d-6/5"]]),
    ("select round(avg(status), 3) from crawl_log", [[round((21 * 200 + 6 * 404) / 27, 3)]]),
    ("select :segment s, count(*) from crawl_log group by :segment having count(*) > 5 order by 2 desc",
     [["d-6", 7], ["d-5", 6]]),
    ("select distinct status from crawl_log order by status desc", [[404], [200]]),
    ("select url from crawl_log where url is not null order by url desc limit 2 offset 1", [["http://d-6/4"], ["http://d-6/3"]]),
    ("select url from crawl_log where url is not null order by length(url), substr(url, 10) desc limit 1", [["http://d-6/5"]]),
    ("select count(*) from crawl_log where status = 999", [[0]]),
    ("select avg(status) from crawl_log where status = 999", [[None]]),
    ("select status from crawl_log where status = 999 order by 1", []),
    ("select substr(url, 8, 3) host, count(*) filter (where url like '%0') c from crawl_log group by host order by c desc, host limit 2",
     [["d-1", 1], ["d-2", 1]]),
    ("select count(*) as n from crawl_log reduce select sum(n) as n from partial", [[27]]),
    ("select count(distinct url) as n from crawl_log reduce select sum(n) as n from partial", [[21]]),
]


@pytest.mark.parametrize("sql, expected", MERGES)
def test_merge(dev, data, sql, expected):
    done = terminal.run(dev.url, "-f", "raw", *data, "-c", f"merge {sql}")
    assert done.returncode == 0, done
    assert [list(row.values()) for row in json.loads(done.stdout)] == expected


def test_merge_takes_what_it_needs_and_says_what_it_cannot(dev, data):
    cut = terminal.run(dev.url, "-f", "ndjson", *data, "-c", "merge select status from crawl_log limit 5")
    assert len(cut.stdout.splitlines()) == 5
    done = terminal.run(dev.url, *data, "-c", "merge select count(distinct url) from crawl_log")
    assert done.returncode == 1 and "REDUCE" in done.stderr


def test_failed_segments_are_counted_and_named(dev, data):
    done = terminal.run(dev.url, "d-1", "no-such", "d-2", "-c", "select count(*) from crawl_log")
    assert done.returncode == 1
    assert done.stdout.count("+++++ results from segment") == 2 and "(1 failed)" in done.stdout
    assert "segment no-such: there is no such segment" in done.stderr and "1 of 3 segments failed" in done.stderr
    merged = terminal.run(dev.url, "-f", "raw", "d-1", "no-such", "d-2", "-c", "merge select count(*) n from crawl_log")
    assert merged.returncode == 1 and json.loads(merged.stdout) == [{"n": 5}]
    alone = terminal.run(dev.url, "no-such", "-c", "select 1")
    assert alone.returncode == 1 and "no-such" in alone.stderr and alone.stdout == ""


def test_writing_wants_a_writable_shell_and_one_segment(dev, data):
    read_only = terminal.run(dev.url, "d-1", "-c", "insert into notes values ('x')")
    assert read_only.returncode == 1 and "-w" in read_only.stderr
    two = terminal.run(dev.url, "-w", "d-1", "d-2", "-c", "insert into notes values ('x')")
    assert two.returncode == 1 and "multiple segments" in two.stderr
    for command in ["provision x", "promote d-1", "shred segment d-1"]:
        assert terminal.run(dev.url, "-c", command).returncode == 1, command


def test_a_script_is_one_transaction(dev, data, tmp_path):
    (tmp_path / "half.sql").write_text("insert into notes values ('a');\ninsert into nowhere values (1);\n")
    failed = terminal.run(dev.url, "-w", "d-1", "-c", "infile half.sql", cwd=tmp_path)
    assert failed.returncode == 1 and "nowhere" in failed.stderr
    left = terminal.run(dev.url, "-f", "raw", "d-1", "-c", "select note from notes")
    assert json.loads(left.stdout) == []
    missing = terminal.run(dev.url, "-w", "d-1", "-c", "infile nothing.sql", cwd=tmp_path)
    assert missing.returncode == 1 and "nothing.sql" in missing.stderr


def test_case_is_kept(dev, data):
    script = "provision Mixed-Case\nconnect Mixed-Case\ncreate table T (a);\ninsert into T values ('B');\nFORMAT raw\nSELECT A FROM t;\n"
    done = terminal.run(dev.url, "-w", input=script)
    assert done.returncode == 0 and '[{"a":"B"}]' in done.stdout, done
    listed = terminal.run(dev.url, "-f", "ndjson", "-c", "Show Segments Matching ^Mixed")
    assert [json.loads(line)["segment"] for line in listed.stdout.splitlines()] == ["Mixed-Case"]
    assert terminal.run(dev.url, "-f", "ndjson", "-c", "show segments matching ^mixed").stdout == ""


def test_what_is_being_written_is_not_shredded(dev, data):
    done = terminal.run(dev.url, "-w", "-y", "-c", "shred segment d-1")
    assert done.returncode == 1 and "PROMOTE" in done.stderr
    assert "d-1" in terminal.run(dev.url, "-c", "show segments matching ^d-1$").stdout


def test_shred_wants_yes(dev, data):
    terminal.canonical(dev.url, "doomed")
    refused = terminal.run(dev.url, "-w", "-c", "shred segment doomed")
    assert refused.returncode == 1 and "-y" in refused.stderr
    assert "doomed" in terminal.run(dev.url, "-c", "show segments matching ^doomed$").stdout
    done = terminal.run(dev.url, "-w", "-y", "-c", "shred segment doomed")
    assert done.returncode == 0 and done.stdout.startswith("doomed: "), done
    gone = terminal.run(dev.url, "-c", "show segments matching ^doomed$")
    assert gone.stdout.splitlines() == ["<no results>", "0 results"]


def test_no_colours_without_a_terminal(dev, data):
    done = terminal.run(dev.url, "d-1", "-c", "select null", "-c", "select 1 from nowhere")
    assert "\x1b" not in done.stdout + done.stderr and "<null>" in done.stdout


def test_control_characters_reach_no_table(dev, data):
    done = terminal.run(dev.url, "d-1", "-c", "select char(27) || '[2J' as evil")
    assert "\x1b" not in done.stdout and "\\x1b[2J" in done.stdout
    raw = terminal.run(dev.url, "-f", "raw", "d-1", "-c", "select char(27) as c")
    assert json.loads(raw.stdout) == [{"c": "\x1b"}]


def test_a_reader_that_leaves_ends_it(dev, data):
    endless = "with recursive c(x) as (select 1 union all select x + 1 from c) select x from c"
    shell = subprocess.Popen([harness.BIN, "shell", "-u", dev.url, "-f", "csv", "d-1", "-c", endless],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert [shell.stdout.readline() for _ in range(3)] == ["x\n", "1\n", "2\n"]
    shell.stdout.close()
    assert shell.wait(60) == 0 and shell.stderr.read() == ""
    shell.stderr.close()


def test_show_commands(dev, data):
    show = lambda what, *segments: json.loads(terminal.run(dev.url, "-f", "raw", *segments, "-c", f"show {what}").stdout)
    assert {"id": "data"} in show("schemas") and "crawl_log" in show("schema data")[0]["sql"]
    assert show("tables", "d-1") == [{"name": "crawl_log", "type": "table"}, {"name": "notes", "type": "table"}]
    assert show("tables", *data) == [{"name": n, "type": "table", "segments": 6} for n in ("crawl_log", "notes")]
    assert show("create table NOTES", "d-1") == [{"name": "notes", "sql": "CREATE TABLE notes (note TEXT)"}]
    assert [r["segments"] for r in show("create table", *data)] == [6, 6]
    connections = show("connections", "d-1", "d-2")
    assert [c["segment"] for c in connections] == ["d-1", "d-2"]
    assert all(c["read_url"].endswith(f"segment={c['segment']}") and c["write_url"] for c in connections)
    assert {w["alive"] for w in show("workers")} == {"yes"} and len(show("workers")) == 2
    assert set(data) <= {lock["segment"] for lock in show("locks")}
    segments = show("segments matching ^d-")
    assert [s["segment"] for s in segments] == data and all(s["writable"] == "yes" and s["tier"] == "hot" for s in segments)


def test_connect_matching(dev, data):
    done = terminal.run(dev.url, "-f", "csv", "-c", "connect matching '^d-[1-3]$'", "-c", "merge select count(*) n from crawl_log")
    assert done.stdout == "n\n9\n", done
    no_regex = terminal.run(dev.url, "-c", "connect matching (")
    assert no_regex.returncode == 1 and "pattern" in no_regex.stderr


def test_more_segments_than_are_shown_in_order(dev, data):
    many = [f"m-{n:03}" for n in range(130)]
    assert terminal.run(dev.url, "-w", "-s", "data", "-c", f"provision {' '.join(many)}").returncode == 0
    done = terminal.run(dev.url, "-c", "connect matching ^m-", "-c", "select count(*) from notes", "-c", "merge select count(*) from notes")
    assert done.returncode == 0, done
    named = [line.split()[4] for line in done.stdout.splitlines() if line.startswith("+++++ results")]
    assert sorted(named) == many and "130 total results from 130 segments" in done.stdout


def test_what_waits_for_its_segments_end_is_bounded(dev, data):
    """Each segment gives more than may wait, so its rows are shown in several pieces, and all of them."""
    rows = 100_000
    sql = f"with recursive c(x) as (select 1 union all select x + 1 from c where x < {rows}) select x, hex(zeroblob(100)) h from c"
    done = terminal.run(dev.url, "d-1", "d-2", "-c", sql)
    assert done.returncode == 0
    assert f"{2 * rows} total results from 2 segments" in done.stdout
    assert "+++++ further results from segment d-" in done.stdout
    assert done.stdout.count("| " + "00" * 100 + " |") == 2 * rows
