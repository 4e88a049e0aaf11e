#!/usr/bin/env python3
"""Makes a database, a dataset, charts and a dashboard in a running Superset by its REST API, fetches the charts' data, and holds
each against the same question to plain PostgreSQL tables.

    drive.py SUPERSET_URL HOST:PORT PASSWORD      prints the SQL that Superset sent, its plan, and the dashboard's path

Made again, things of the same name are removed first.
"""

import datetime
import json
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

WEEKS = "Flights a week by airport"
DELAYS = "Mean departure delay by carrier (minutes)"
YEAR = {"col": "departed", "op": "TEMPORAL_RANGE", "val": "2013-01-01 : 2014-01-01"}
TRUTH = {
    WEEKS: "SELECT date_trunc('week', time_hour::timestamptz AT TIME ZONE 'UTC') AS departed, origin, count(*) AS flights"
           " FROM plain.flights WHERE time_hour < '2014' GROUP BY 1, 2",
    DELAYS: "SELECT carrier, avg(dep_delay) AS delay FROM plain.flights WHERE time_hour < '2014' GROUP BY 1",
}


class Superset:
    def __init__(self, url, password):
        self.url, self.token = url, None
        login = {"username": "admin", "password": password, "provider": "db", "refresh": False}
        self.token = self.call("POST", "security/login", login)["access_token"]

    def call(self, method, path, body=None):
        headers = {} if body is None else {"content-type": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(f"{self.url}/api/v1/{path}", method=method, headers=headers,
                                         data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as e:
            raise SystemExit(f"superset: {method} {path}: {e.code} {e.read().decode()[:2000]}") from e

    def remove(self, kind, column, name):
        query = urllib.parse.quote(f"(filters:!((col:{column},opr:eq,value:'{name}')))")
        for found in self.call("GET", f"{kind}/?q={query}")["result"]:
            self.call("DELETE", f"{kind}/{found['id']}")


def metric(label, sql):
    return {"expressionType": "SQL", "sqlExpression": sql, "label": label, "optionName": f"metric_{label}"}


def weeks():
    """A line a week and airport."""
    count = metric("flights", "COUNT(*)")
    axis = {"columnType": "BASE_AXIS", "sqlExpression": "departed", "label": "departed", "expressionType": "SQL", "timeGrain": "P1W"}
    form = {"viz_type": "echarts_timeseries_line", "x_axis": "departed", "time_grain_sqla": "P1W", "metrics": [count],
            "groupby": ["origin"], "adhoc_filters": [adhoc_year()], "row_limit": 10000, "show_legend": True,
            "x_axis_time_format": "smart_date", "y_axis_format": "SMART_NUMBER", "truncateYAxis": False, "markerEnabled": False}
    query = {"columns": [axis, "origin"], "metrics": [count], "filters": [YEAR], "orderby": [], "row_limit": 10000}
    return WEEKS, form, query


def delays():
    """A bar a carrier."""
    delay = metric("delay", "AVG(dep_delay)")
    form = {"viz_type": "echarts_timeseries_bar", "x_axis": "carrier", "metrics": [delay], "groupby": [],
            "adhoc_filters": [adhoc_year()], "row_limit": 100, "x_axis_sort": "delay", "x_axis_sort_asc": False,
            "show_legend": False, "y_axis_format": ".1f", "xAxisForceCategorical": True}
    query = {"columns": ["carrier"], "metrics": [delay], "filters": [YEAR], "orderby": [[delay, False]], "row_limit": 100}
    return DELAYS, form, query


def adhoc_year():
    return {"clause": "WHERE", "comparator": YEAR["val"], "expressionType": "SIMPLE", "operator": "TEMPORAL_RANGE", "subject": "departed"}


def psql(address, sql):
    host, port = address.split(":")
    done = subprocess.run(["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", port, "-U", "postgres", "demo", "-c", sql],
                          text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(f"psql: {done.stderr}")
    return done.stdout


def truth(address, sql):
    rows = [json.loads(line) for line in psql(address, f"SELECT to_json(t) FROM ({sql}) t").splitlines()]
    return sorted((normal(row) for row in rows), key=repr)


def normal(row):
    """A row by column, with numbers of any type to nine digits and timestamps in seconds since 1970."""
    def value(key, v):
        if key == "departed":
            return round(v / 1000) if isinstance(v, (int, float)) else seconds(v)
        return f"{float(v):.9g}" if isinstance(v, (int, float)) else v
    return {key: value(key, row[key]) for key in sorted(row)}


def seconds(text):
    moment = datetime.datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp())


def layout(charts):
    """The position of the charts on the dashboard: one row each."""
    rows = {f"ROW-{i}": {"type": "ROW", "id": f"ROW-{i}", "children": [f"CHART-{i}"], "parents": ["ROOT_ID", "GRID_ID"],
                         "meta": {"background": "BACKGROUND_TRANSPARENT"}} for i in range(len(charts))}
    cells = {f"CHART-{i}": {"type": "CHART", "id": f"CHART-{i}", "children": [], "parents": ["ROOT_ID", "GRID_ID", f"ROW-{i}"],
                            "meta": {"chartId": chart, "width": 12, "height": 42, "sliceName": name}}
             for i, (chart, name) in enumerate(charts)}
    return {"DASHBOARD_VERSION_KEY": "v2", "ROOT_ID": {"type": "ROOT", "id": "ROOT_ID", "children": ["GRID_ID"]},
            "GRID_ID": {"type": "GRID", "id": "GRID_ID", "children": list(rows), "parents": ["ROOT_ID"]}, **rows, **cells}


def main(url, address, password):
    superset = Superset(url, password)
    superset.remove("dashboard", "dashboard_title", "Flights")
    for name in TRUTH:
        superset.remove("chart", "slice_name", name)
    superset.remove("dataset", "table_name", "flights")
    superset.remove("database", "database_name", "pg_trough")

    database = superset.call("POST", "database/", {
        "database_name": "pg_trough", "sqlalchemy_uri": f"postgresql+psycopg2://postgres@{address}/demo",
        "expose_in_sqllab": True})["id"]
    schemas = superset.call("GET", f"database/{database}/schemas/")["result"]
    tables = superset.call("GET", f"database/{database}/tables/?q=(schema_name:bi)")["result"]
    print(f"Superset sees the schemas {', '.join(schemas)} and in bi: {[(t['value'], t['type']) for t in tables]}")
    dataset = superset.call("POST", "dataset/", {"database": database, "schema": "bi", "table_name": "flights"})["id"]
    seen = superset.call("GET", f"dataset/{dataset}")["result"]
    print("columns:", ", ".join(f"{c['column_name']} {c['type']}{' (time)' if c['is_dttm'] else ''}" for c in seen["columns"]))

    # Superset writes the bounds of a column of a timestamp type as to_timestamp(…), which is a timestamptz, so that they are
    # compared in the session's time zone. Those of a calculated column of type STRING are plain literals, in UTC.
    columns = [{key: c[key] for key in ("id", "column_name", "type", "is_dttm", "groupby", "filterable")} for c in seen["columns"]]
    columns.append({"column_name": "departed", "expression": "departure", "type": "STRING", "is_dttm": True, "groupby": True,
                    "filterable": True, "python_date_format": "%Y-%m-%d %H:%M:%S.%f"})
    superset.call("PUT", f"dataset/{dataset}", {"columns": columns, "main_dttm_col": "departed"})

    made = []
    for name, form, query in [weeks(), delays()]:
        context = {"datasource": {"id": dataset, "type": "table"}, "force": True, "queries": [query], "form_data": form,
                   "result_format": "json", "result_type": "full"}
        chart = superset.call("POST", "chart/", {
            "slice_name": name, "viz_type": form["viz_type"], "datasource_id": dataset, "datasource_type": "table",
            "params": json.dumps({**form, "datasource": f"{dataset}__table"}), "query_context": json.dumps(context)})["id"]
        answer = superset.call("GET", f"chart/{chart}/data/?force=true")["result"][0]
        if answer.get("error"):
            raise SystemExit(f"superset: {name}: {answer['error']}")
        sql = answer["query"].rstrip().rstrip(";")
        print(f"\n{name}: {answer['rowcount']} rows by\n{sql}")
        plan = psql(address, f"EXPLAIN (VERBOSE, COSTS OFF) {sql}")
        print("\n".join(line for line in plan.splitlines() if "SQL:" in line or "Foreign Scan" in line or "Aggregate" in line))
        if "Relations: Aggregate on" not in plan:
            raise SystemExit(f"{name}: the aggregate is not pushed down")
        if sorted((normal(row) for row in answer["data"]), key=repr) != truth(address, TRUTH[name]):
            raise SystemExit(f"{name}: the answer differs from that of plain tables")
        print(f"the same {answer['rowcount']} rows as from plain tables")
        made.append((chart, name))

    dashboard = superset.call("POST", "dashboard/", {
        "dashboard_title": "Flights", "published": True, "position_json": json.dumps(layout(made))})["id"]
    for chart, _ in made:
        superset.call("PUT", f"chart/{chart}", {"dashboards": [dashboard]})
    print(f"\n/superset/dashboard/{dashboard}/?standalone=2")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
