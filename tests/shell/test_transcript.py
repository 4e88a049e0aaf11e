"""A session on a terminal through every command. With TROUGH_SHELL_TRANSCRIPT=write it becomes docs/SHELL-TRANSCRIPT.md."""

import os
import re

import harness
import terminal

TRANSCRIPT = harness.ROOT / "docs/SHELL-TRANSCRIPT.md"
SCHEMA = "CREATE TABLE crawl_log (ts TEXT NOT NULL, status INTEGER NOT NULL, url TEXT NOT NULL);\n"
ROWS = """INSERT INTO crawl_log VALUES ('2026-11-29T23:59:58Z', 200, 'http://example.com/');
INSERT INTO crawl_log VALUES ('2026-11-29T23:59:59Z', 404, 'http://example.com/nothing');
INSERT INTO crawl_log VALUES ('2026-11-30T00:00:01Z', 200, 'http://example.org/');
"""
# What is typed, and what must come of it. `\n` within a line is typed as Enter.
SESSION = [
    ("help", "SHOW TABLES"),
    ("help merge", "Examples:"),
    ("show workers", r"worker-1 .* hot "),
    ("show schemas", "default"),
    ("REGISTER SCHEMA crawl crawl.sql", "registered"),
    ("show schema crawl", "CREATE TABLE crawl_log"),
    ("provision 300123 300124 Scratch", "write_url"),
    ("show locks", "300124"),
    ("connect 300123", ""),
    ("infile rows.sql", "OK"),
    ("insert into crawl_log\nvalues ('2026-11-30T00:00:02Z', 503, 'http://example.net/');", "OK"),
    ("select status, count(*) from crawl_log group by status;", r"\| +503 \|"),
    ("explain query plan select * from crawl_log;", "SCAN crawl_log"),
    ("show tables", "crawl_log"),
    ("show create table crawl_log", "CREATE TABLE crawl_log"),
    ("connect 300124", ""),
    ("write insert into crawl_log values ('2026-11-30T00:00:03Z', 200, 'http://example.com/again');", "OK"),
    ("show connections", "write_url"),
    ("CONNECT MATCHING ^3001", "2 segments match"),
    ("select url from crawl_log where status = 200;", r"results from segment 300124(.|\n)*total results from 2 segments"),
    ("insert into crawl_log select * from crawl_log;", "multiple segments"),
    ("show tables", "segments"),
    ("merge select status, count(*) as n, max(ts) from crawl_log group by status order by n desc;", r"\| +200 \| +3 \|"),
    ("merge select count(*) as n from crawl_log reduce select sum(n) as n from partial;", r"\| 5 \|"),
    ("merge select count(distinct url) from crawl_log;", "MERGE cannot"),
    ("format csv", "format is now csv"),
    ("select status, url from crawl_log order by ts limit 1;", "300123,200,http://example.com/"),
    ("format ndjson", "ndjson"),
    ("select status, url from crawl_log order by ts limit 1;", '{"segment":"300124","status":200'),
    ("FORMAT RAW", "raw"),
    ("merge select status from crawl_log order by status;", r'\[\{"status":200\}, '),
    ("format pretty", "pretty"),
    ("merge select max(status) as worst from crawl_log;", '"worst": 503'),
    ("Format Table", "table"),
    ("format", "format is table"),
    ("\\timing", "timing is off"),
    ("merge select count(*) from crawl_log;", r"1 total results from 2 segments$"),
    ("\\timing on", "timing is on"),
    ("\\pager", "pager is "),
    ("select count(*) from no_such_table;", "2 of 2 segments failed"),
    ("slect 1", "did you mean SELECT"),
    ("connect Scratch", ""),
    ("\\d", "crawl_log"),
    ("promote 300123", "300123: "),
    ("connect 300124", ""),
    ("promote", "1 promoted"),
    ("promote matching ^Scr", "1 promoted"),
    ("show segments matching ^3001|Scratch", "3 results"),
    ("shred segment Scratch", "not done"),
    ("shred segment Scratch", "Scratch: "),
    ("show segments matching Scratch", "0 results"),
]


def test_a_session_through_every_command(shell, dev, tmp_path):
    (tmp_path / "crawl.sql").write_text(SCHEMA)
    (tmp_path / "rows.sql").write_text(ROWS)
    one = shell("-w", "-s", "crawl", cwd=tmp_path, rows=1500, columns=130)
    answers = iter(["no", "yes"])
    for line, expect in SESSION:
        if line.startswith("shred"):
            terminal.unlocked(dev.url, "Scratch")
            with one.news:
                begin = one.screen.cursor.y
            one.keys(line + "\r")
            one.wait("the question", lambda: "(yes/no)" in one.cursor_line())
            output = one.command(next(answers))
            with one.news:
                assert re.search(expect, "\n".join(one.lines()[begin:])), output
            continue
        one.command(line.replace("\n", "\r"), expect)
    assert one.quit("bye\r") == 0
    if os.environ.get("TROUGH_SHELL_TRANSCRIPT") == "write":
        write(one.text().replace(str(dev.dir), "/tmp/trough"))


def write(text):
    TRANSCRIPT.write_text(
        "# A session in `trough shell`\n\nWritten by `TROUGH_SHELL_TRANSCRIPT=write pytest tests/shell/test_transcript.py`, on a terminal of 130 columns. "
        "`crawl.sql` and\n`rows.sql` hold a schema and three rows. The guide is [SHELL.md](SHELL.md).\n\n"
        f"```\n$ trough shell -u rethinkdb://127.0.0.1:26000/trough_configuration -w -s crawl\n{text}\n```\n")


def commands_of(text):
    """What was typed after the prompts of a transcript, continuation lines joined."""
    typed = []
    for line in text.splitlines():
        prompt = terminal.PROMPT.match(line)
        if prompt:
            typed.append(line[prompt.end():])
        elif line.startswith("... ") and typed:
            typed[-1] += "\n" + line[4:]
    return typed


def test_the_transcript_is_of_this_session():
    """Whoever changes the session writes the transcript anew."""
    assert commands_of(TRANSCRIPT.read_text()) == [line for line, _ in SESSION] + ["bye"]


def test_the_session_leaves_no_command_out(dev):
    """Every form in the overview of HELP occurs, by its first words."""
    overview = terminal.run(dev.url, "-c", "help").stdout
    forms = [re.match(r"(\\\w+|[A-Z]+(?: [A-Z]+)*)", line)[0].lower() for line in overview.split("\n\n")[0].splitlines()]
    typed = [line.lower() for line, _ in SESSION]
    ways_out = {"quit"}
    missing = [form for form in forms if form not in ways_out and not any(line.startswith(form) for line in typed)]
    assert not missing, missing
