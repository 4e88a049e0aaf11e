//! The SHOW commands.

use futures::StreamExt as _;
use trough_client::discovery::{Copy, Served};
use trough_core::{SchemaId, SegmentId, Value};

use super::{
    connected,
    merge::{self, Merge},
    render::Format,
    session::Session,
};

/// Segments that are listed, or looked up, at a time.
const PAGE: usize = 1_000;
/// Tables and views that are not SQLite's own.
const TABLES: &str = "from sqlite_master where type in ('table', 'view') and name not like 'sqlite\\_%' escape '\\'";

fn text(text: impl ToString) -> Value {
    Value::Text(text.to_string())
}

fn yes(yes: bool) -> Value {
    text(if yes { "yes" } else { "" })
}

fn tier(cold: bool) -> Value {
    text(if cold { "cold" } else { "hot" })
}

impl Session {
    pub(super) async fn show_tables(&mut self) -> anyhow::Result<()> {
        if self.connected.only().is_some() {
            return self.query(&format!("select name, type {TABLES} order by name"), &[]).await;
        }
        self.over_all(&format!("select name, type, count(*) as segments {TABLES} group by name, type order by name"))
            .await
    }

    pub(super) async fn show_create_table(&mut self, name: Option<&str>) -> anyhow::Result<()> {
        let which =
            name.map_or_else(String::new, |name| format!(" and name = '{}' collate nocase", name.replace('\'', "''")));
        if self.connected.only().is_some() {
            return self.query(&format!("select name, sql {TABLES}{which} order by name"), &[]).await;
        }
        let grouped = "group by name, sql order by name, 3 desc";
        self.over_all(&format!("select name, sql, count(*) as segments {TABLES}{which} {grouped}")).await
    }

    async fn over_all(&mut self, sql: &str) -> anyhow::Result<()> {
        let plan: Merge = merge::plan(sql)?;
        self.run_merge(&plan).await
    }

    pub(super) async fn show_schemas(&mut self) -> anyhow::Result<()> {
        let mut ids: Vec<String> = self.discovery.catalog().schemas().await?.into_iter().map(|s| s.id).collect();
        ids.sort_unstable();
        Ok(self.print_rows(&["id"], ids.into_iter().map(|id| vec![Value::Text(id)]).collect())?)
    }

    pub(super) async fn show_schema(&mut self, name: &str) -> anyhow::Result<()> {
        let schema = self.discovery.catalog().require_schema(&SchemaId::new(name)?).await?;
        Ok(self.print_rows(&["id", "sql"], vec![vec![Value::Text(schema.id), Value::Text(schema.sql)]])?)
    }

    /// Lists served segments as they come, in their order.
    pub(super) async fn show_segments(&mut self, pattern: Option<&str>) -> anyhow::Result<()> {
        let mut scan = self.discovery.scan(connected::pattern(pattern)?).await?;
        let columns = ["segment", "nodes", "tier", "writable"].map(str::to_owned);
        let (mut sheet, mut out) = (self.sheet(), String::new());
        while let Some(page) = scan.next_page(PAGE).await? {
            sheet.columns(&columns, &mut out);
            for served in &page {
                sheet.row(&segment_row(served), &mut out);
            }
            self.out.take(&mut out)?;
        }
        sheet.end(&mut out);
        self.out.take(&mut out)?;
        if self.format == Format::Table {
            self.say(format_args!("{} results", sheet.rows()))?;
        }
        Ok(())
    }

    pub(super) async fn show_connections(&mut self) -> anyhow::Result<()> {
        let nodes = self.discovery.catalog().nodes().await?;
        let write_url = |copy: &Copy, segment: &SegmentId| {
            let node = nodes.iter().find(|n| copy.writable && n.node() == Some(&copy.node))?;
            let base = node.service.write_url.as_deref()?.trim_end_matches('/');
            Some(format!("{base}/?segment={}", segment.url_encoded()))
        };
        let columns = ["segment", "node", "tier", "read_url", "write_url"].map(str::to_owned);
        let (mut sheet, mut out) = (self.sheet(), String::new());
        let mut pages = self.connected.pages(&self.discovery);
        while let Some(page) = pages.recv().await {
            for ids in page?.chunks(PAGE) {
                let located = self.discovery.locate(ids).await?;
                for segment in ids {
                    sheet.columns(&columns, &mut out);
                    let copies = located.get(segment).map_or(&[][..], Vec::as_slice);
                    if copies.is_empty() {
                        sheet.row(&[text(segment), Value::Null, Value::Null, Value::Null, Value::Null], &mut out);
                    }
                    for copy in copies {
                        let read_url = format!("{}?segment={}", copy.read_url, segment.url_encoded());
                        let write_url = write_url(copy, segment).map_or(Value::Null, Value::Text);
                        let row = [text(segment), text(&copy.node), tier(copy.cold), text(read_url), write_url];
                        sheet.row(&row, &mut out);
                    }
                }
                self.out.take(&mut out)?;
            }
        }
        sheet.end(&mut out);
        Ok(self.out.take(&mut out)?)
    }

    pub(super) async fn show_workers(&mut self) -> anyhow::Result<()> {
        let mut nodes = self.discovery.catalog().nodes().await?;
        nodes.sort_by(|a, b| a.node().cmp(&b.node()));
        let columns =
            ["node", "tier", "alive", "heartbeat", "load", "segments", "used", "capacity", "zone", "draining"];
        let rows = nodes.iter().map(|status| {
            let s = &status.service;
            let number = |n: Option<u64>| n.map_or(Value::Null, |n| Value::Integer(n as i64));
            let size = |n: Option<u64>| n.map_or(Value::Null, |n| Value::Text(trough_sync::view::human_bytes(n)));
            vec![
                text(status.node().map_or("", |n| n.as_str())),
                tier(s.cold_storage == Some(true)),
                text(if status.alive { "yes" } else { "no" }),
                Value::Text(format!("{:.1} s ago", status.age_seconds)),
                Value::Real((s.load * 100.0).round() / 100.0),
                number(s.segments),
                size(s.used_bytes),
                size(s.available_bytes),
                s.zone.as_deref().map_or(Value::Null, text),
                yes(s.draining),
            ]
        });
        let rows = rows.collect();
        Ok(self.print_rows(&columns, rows)?)
    }

    pub(super) async fn show_locks(&mut self) -> anyhow::Result<()> {
        let mut locks = self.discovery.catalog().locks().await?;
        let columns = ["segment", "node", "under_promotion"].map(str::to_owned);
        let (mut sheet, mut out) = (self.sheet(), String::new());
        while let Some(lock) = locks.next().await {
            let lock = lock?;
            sheet.columns(&columns, &mut out);
            sheet.row(&[text(&lock.segment), text(&lock.node), yes(lock.under_promotion)], &mut out);
            self.out.take(&mut out)?;
        }
        sheet.end(&mut out);
        Ok(self.out.take(&mut out)?)
    }
}

fn segment_row(served: &Served) -> [Value; 4] {
    let nodes: Vec<&str> = served.copies.iter().map(|c| c.node.as_str()).collect();
    [
        text(&served.segment),
        Value::Text(nodes.join(" ")),
        tier(served.copies.iter().all(|c| c.cold)),
        yes(served.copies.iter().any(|c| c.writable)),
    ]
}
