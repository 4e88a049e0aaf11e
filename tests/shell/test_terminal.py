"""On a terminal: completion, history, cancelling, the pager, colours, questions."""

import json
import re

import harness
import terminal

ENDLESS = "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c;"
TAB, UP, CTRL_C, CTRL_D, CTRL_R = "\t", "\x1b[A", "\x03", "\x04", "\x12"


def typed(one):
    return terminal.PROMPT.sub("", one.cursor_line()).strip()


def complete(one, text, expected):
    one.type(text)
    one.keys(TAB)
    one.wait(f"{expected!r} after TAB", lambda: typed(one) == expected.strip())
    one.keys(CTRL_C)
    one.wait("an empty prompt", one.at_prompt)


def test_tab_completes(shell, data, tmp_path):
    one = shell("d-1", cwd=tmp_path)
    (tmp_path / "script-one.sql").write_text("")
    complete(one, "sho", "show")
    complete(one, "SHOW SCHEM", "SHOW SCHEMA")
    complete(one, "show cr", "show create table")
    complete(one, "connect d-", "connect d-")
    complete(one, "connect no-such", "connect no-such")
    complete(one, "show schema da", "show schema data")
    complete(one, "select * from craw", "select * from crawl_log")
    complete(one, "select stat", "select status")
    complete(one, "merge select count(*) from no", "merge select count(*) from notes")
    complete(one, "infile script-o", "infile script-one.sql")
    one.type("connect d-")
    one.keys(TAB)
    one.wait("all segments", lambda: all(segment in one.text() for segment in data))
    assert leave(one) == 0


def leave(one):
    """Drops what is typed, and leaves."""
    if not one.at_prompt():
        one.keys(CTRL_C)
        one.wait("an empty prompt", one.at_prompt)
    return one.quit(CTRL_D)


def test_history_is_kept_and_searched(shell, dev, data, tmp_path):
    one = shell("d-1")
    one.command("select 40 + 2 as answer;", r"\| +42 \|")
    one.command("show tables", "crawl_log")
    assert one.quit() == 0
    assert (tmp_path / "history").stat().st_mode & 0o077 == 0
    two = shell("d-1")
    two.keys(UP + UP + UP)
    two.wait("the line of the run before", lambda: typed(two) == "select 40 + 2 as answer;")
    two.keys(CTRL_C)
    two.wait("an empty prompt", two.at_prompt)
    two.keys(CTRL_R + "40 +")
    two.wait_for(r"40 \+ 2 as answer")
    two.keys("\r")
    two.wait("the line to be taken", lambda: typed(two) == "select 40 + 2 as answer;")
    assert leave(two) == 0


def test_statements_of_several_lines(shell, data):
    one = shell("d-2")
    one.command("select status,\r  count(*) as n\rfrom crawl_log\rgroup by status;", r"\| +200 \| 2 \|")


def test_ctrl_c_cancels_the_query_and_not_the_shell(shell, dev, data):
    one = shell(*data)
    one.command(ENDLESS, end="Ctrl-C cancels")
    assert "segments" in one.text()
    one.keys(CTRL_C)
    one.wait("the prompt", one.at_prompt)
    assert "error: cancelled" in one.text()
    one.command("select 7 * 6;", "42")
    # The workers have stopped, too.
    harness.wait_for("idle workers", lambda: all(running(url) == 0 for url in read_urls(dev, data)))
    assert one.quit(CTRL_D) == 0


def read_urls(dev, segments):
    """Base URLs of the workers that serve them."""
    listed = terminal.run(dev.url, "-f", "raw", *segments, "-c", "show connections").stdout
    return {row["read_url"].split("?")[0] for row in json.loads(listed)}


def running(url):
    return harness.http("GET", f"{url}status").json["engine"]["running"]


def test_long_output_goes_through_the_pager(shell, data):
    one = shell("d-1", rows=20, env={"TROUGH_PAGER": "sed s/^/paged:/"})
    one.keys("help\r")
    one.wait_for("paged:QUIT")
    one.wait("the prompt", one.at_prompt)
    one.keys("show tables\r")
    one.wait_for("(?m)^2 total results")
    one.wait("the prompt", one.at_prompt)
    one.keys("\\pager off\r")
    one.wait_for("pager is off")
    one.wait("the prompt", one.at_prompt)
    one.keys("help\r")
    one.wait_for(r"(?m)^QUIT")


def test_leaving_the_pager_ends_the_query(shell, data):
    one = shell("d-1", rows=20, env={"TROUGH_PAGER": "head -n 3"})
    one.keys("with recursive c(x) as (select 1 union all select x + 1 from c) select x from c;\r")
    one.wait_for(r"\| x")
    one.wait("the prompt", one.at_prompt)
    one.keys("select 'still here' as it;\r")
    one.wait_for("still here")


def test_shred_asks(shell, dev, data):
    terminal.canonical(dev.url, "asked-about")
    one = shell("-w")
    one.command("shred segment asked-about", end=r"\(yes/no\)")
    one.keys("no\r")
    one.wait_for("not done")
    one.wait("the prompt", one.at_prompt)
    one.command("show segments matching ^asked", "1 results")
    one.command("shred segment asked-about", end=r"(?s)not done.*\(yes/no\)|\(yes/no\)")
    one.keys("yes\r")
    one.wait_for("asked-about: ")
    one.wait("the prompt", one.at_prompt)
    one.command("show segments matching ^asked", "0 results")


def test_colours_are_for_terminals_that_want_them(shell, data):
    coloured = shell("d-1")
    coloured.command("select null as n;", "<null>")
    coloured.command("select 1 from nowhere;", "error: ")
    assert b"\x1b[31m" in coloured.raw and b"\x1b[2m" in coloured.raw and b"\x1b[1m" in coloured.raw
    plain = shell("d-1", env={"NO_COLOR": "1"})
    plain.command("select null as n;", "<null>")
    plain.command("select 1 from nowhere;", "error: ")
    assert not re.search(rb"\x1b\[[0-9;]*[1-9][0-9;]*m", plain.raw), plain.raw


def test_every_way_out(shell, data):
    for way in ["quit\r", "EXIT\r", "bye;\r", "eof\r", "\\q\r", CTRL_D]:
        one = shell()
        assert one.quit(way) == 0
        assert one.text().endswith("bye!")


def test_the_prompt_tells_what_is_connected(shell, data):
    one = shell()
    assert one.cursor_line().startswith("trough> ")
    one.command("connect d-1")
    assert one.cursor_line().startswith("trough:d-1(ro)> ")
    one.command("connect matching ^d-", "6 segments match")
    assert one.cursor_line().startswith("trough:[6 segments](ro)> ")
