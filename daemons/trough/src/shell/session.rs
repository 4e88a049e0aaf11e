//! What the shell's commands do.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use trough_client::{
    Discovery, QueryClient, QueryOptions, QueryTemplate, SegmentPattern, SegmentSet, WriteClient, write::PromoteSet,
};
use trough_core::{SchemaId, SegmentId, Value};

use super::{
    command::{self, Command, Segments},
    render::{Format, Rows},
};

/// One shell: its connections to the cluster and what was said so far.
pub(super) struct Session {
    pub discovery: Discovery,
    pub queries: QueryClient,
    pub writes: WriteClient,
    pub segments: Vec<SegmentId>,
    pub writable: bool,
    pub schema: SchemaId,
    pub format: Format,
    /// The terminal's width, if output goes to one.
    pub width: Option<u16>,
    /// Segments seen by the last SHOW SEGMENTS or CONNECT, for completion.
    pub seen: Vec<String>,
}

/// Whether the shell goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Continue,
    Quit,
}

impl Session {
    /// What stands before the cursor.
    pub(super) fn prompt(&self) -> String {
        let mode = if self.writable { "rw" } else { "ro" };
        match self.segments.as_slice() {
            [] => "trough".to_owned(),
            [one] => format!("trough:{one}({mode})"),
            many => format!("trough:[{} segments]({mode})", many.len()),
        }
    }

    /// Does what a command says.
    ///
    /// # Errors
    /// With a text for the user; the session goes on.
    pub(super) async fn execute(&mut self, command: Command) -> anyhow::Result<Next> {
        match command {
            Command::Nothing => {}
            Command::Quit => return Ok(Next::Quit),
            Command::Help(None) => {
                for name in command::commands() {
                    println!("{}\n", command::help(name).unwrap_or_default());
                }
            }
            Command::Help(Some(name)) => match command::help(&name) {
                Some(text) => println!("{text}"),
                None => bail!("no help on {name:?}; HELP alone shows all commands"),
            },
            Command::Wrong(usage) => bail!("not understood; the forms are\n{usage}"),
            Command::Format(None) => println!("format is {}", self.format.name()),
            Command::Format(Some(name)) => {
                self.format = Format::named(&name);
                println!("format is now {}", self.format.name());
            }
            Command::ShowTables => {
                self.query("select name from sqlite_master where type = 'table' order by name".into(), vec![]).await?;
            }
            Command::ShowCreateTable(None) => {
                self.query("select name, sql from sqlite_master where type = 'table' order by name".into(), vec![])
                    .await?;
            }
            Command::ShowCreateTable(Some(name)) => {
                let sql = "select sql from sqlite_master where type = 'table' and name = ?1 collate nocase";
                self.query(sql.into(), vec![Value::Text(name)]).await?;
            }
            Command::ShowSchemas => self.show_schemas().await?,
            Command::ShowSchema(name) => self.show_schema(&name).await?,
            Command::ShowSegments(pattern) => self.show_segments(pattern.as_deref()).await?,
            Command::ShowConnections => self.show_connections().await?,
            Command::ShowWorkers => self.show_workers().await?,
            Command::ShowLocks => self.show_locks().await?,
            Command::Connect(segments) => self.connect(segments).await?,
            Command::Provision(ids) => self.provision(&ids).await?,
            Command::Promote(which) => self.promote(which).await?,
            Command::Shred(ids) => self.shred(&ids).await?,
            Command::Register { schema, file } => self.register(&schema, &file).await?,
            Command::Infile(file) => {
                let sql = std::fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
                self.write(&sql).await?;
            }
            Command::Query(sql) => self.query(sql, vec![]).await?,
            Command::Write(sql) => self.write(&sql).await?,
        }
        Ok(Next::Continue)
    }

    fn need_writable(&self, what: &str) -> anyhow::Result<()> {
        if !self.writable {
            bail!("{what} is not possible in read-only mode; start the shell with -w");
        }
        Ok(())
    }

    fn need_segments(&self) -> anyhow::Result<()> {
        if self.segments.is_empty() {
            bail!("not connected to any segment; CONNECT to one first");
        }
        Ok(())
    }

    fn show(&self, rows: &Rows) {
        print!("{}", rows.render(self.format, self.width));
    }

    /// Runs a statement on every connected segment; the results come segment by segment, in the order connected.
    async fn query(&mut self, sql: String, params: Vec<Value>) -> anyhow::Result<()> {
        self.need_segments()?;
        let began = Instant::now();
        let template = QueryTemplate { map: sql, params, ..QueryTemplate::default() };
        let set = SegmentSet::Ids(self.segments.clone());
        let mut stream = self.queries.fan_out(set, template, QueryOptions::default());
        let mut results: BTreeMap<SegmentId, Rows> = BTreeMap::new();
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            let Some(segment) = batch.segment.clone() else { continue };
            let result = results.entry(segment).or_default();
            result.columns = batch.columns.to_vec();
            result.rows.extend(trough_sync::rows::rows(&batch)?);
        }
        let mut total = 0;
        for segment in &self.segments {
            if self.segments.len() > 1 {
                println!("+++++ results from segment {segment} +++++");
            }
            let result = results.remove(segment).unwrap_or_default();
            total += result.rows.len();
            self.show(&result);
        }
        if self.format == Format::Table {
            println!("{total} total results in {:.1} ms", began.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(())
    }

    async fn write(&mut self, sql: &str) -> anyhow::Result<()> {
        if !self.writable {
            let keyword: String = sql.split_whitespace().next().unwrap_or_default().chars().take(30).collect();
            bail!("{keyword:?} is no command (HELP lists them), and writing is not possible in read-only mode (-w)");
        }
        self.need_segments()?;
        let [segment] = self.segments.as_slice() else { bail!("writing to several segments at once is not supported") };
        self.writes.write_script(segment, sql).await?;
        println!("OK");
        Ok(())
    }

    async fn show_schemas(&self) -> anyhow::Result<()> {
        let mut rows = Rows::new(&["id"]);
        rows.rows.extend(self.discovery.catalog().schemas().await?.into_iter().map(|s| vec![Value::Text(s.id)]));
        self.show(&rows);
        Ok(())
    }

    async fn show_schema(&self, name: &str) -> anyhow::Result<()> {
        let schema = self.discovery.catalog().require_schema(&SchemaId::new(name)?).await?;
        let mut rows = Rows::new(&["id", "sql"]);
        rows.rows.push(vec![Value::Text(schema.id), Value::Text(schema.sql)]);
        self.show(&rows);
        Ok(())
    }

    async fn show_segments(&mut self, pattern: Option<&str>) -> anyhow::Result<()> {
        let found = self.discovery.all(&self.pattern(pattern)?).await?;
        let copies = self.discovery.copies(&found);
        let mut rows = Rows::new(&["segment", "nodes", "tier", "writable"]);
        let mut ids: Vec<_> = copies.into_iter().collect();
        ids.sort_by(|a, b| a.0.cmp(&b.0));
        self.seen = ids.iter().map(|(id, _)| id.to_string()).collect();
        for (id, copies) in ids {
            let nodes: Vec<&str> = copies.iter().map(|c| c.node.as_str()).collect();
            let tier = if copies.iter().all(|c| c.cold) { "cold" } else { "hot" };
            let writable = copies.iter().any(|c| c.writable);
            rows.rows.push(vec![
                Value::Text(id.to_string()),
                Value::Text(nodes.join(" ")),
                Value::Text(tier.into()),
                Value::Text(if writable { "yes" } else { "" }.into()),
            ]);
        }
        let count = rows.rows.len();
        self.show(&rows);
        if self.format == Format::Table {
            println!("{count} results");
        }
        Ok(())
    }

    fn pattern(&self, pattern: Option<&str>) -> anyhow::Result<SegmentPattern> {
        match pattern {
            None => Ok(SegmentPattern::All),
            Some(text) => SegmentPattern::regex(text).with_context(|| format!("the pattern {text:?}")),
        }
    }

    async fn show_connections(&self) -> anyhow::Result<()> {
        let mut rows = Rows::new(&["segment", "node", "tier", "read_url", "writable"]);
        let located = self.discovery.locate(&self.segments).await?;
        for segment in &self.segments {
            let text = |t: &str| Value::Text(t.to_owned());
            match located.get(segment).map_or(&[][..], Vec::as_slice) {
                [] => rows.rows.push(vec![text(segment.as_str()), Value::Null, Value::Null, Value::Null, text("")]),
                copies => rows.rows.extend(copies.iter().map(|c| {
                    let url = format!("{}?segment={}", c.read_url, segment.url_encoded());
                    vec![
                        text(segment.as_str()),
                        text(c.node.as_str()),
                        text(if c.cold { "cold" } else { "hot" }),
                        Value::Text(url),
                        text(if c.writable { "yes" } else { "" }),
                    ]
                })),
            }
        }
        self.show(&rows);
        Ok(())
    }

    async fn show_workers(&self) -> anyhow::Result<()> {
        let mut nodes = self.discovery.catalog().nodes().await?;
        nodes.sort_by(|a, b| a.node().cmp(&b.node()));
        let mut rows = Rows::new(&[
            "node",
            "tier",
            "alive",
            "heartbeat",
            "load",
            "segments",
            "used",
            "capacity",
            "zone",
            "draining",
        ]);
        for status in nodes {
            let s = &status.service;
            let text = |t: &str| Value::Text(t.to_owned());
            let number = |n: Option<u64>| n.map_or(Value::Null, |n| Value::Integer(n as i64));
            let size = |n: Option<u64>| n.map_or(Value::Null, |n| Value::Text(trough_sync::view::human_bytes(n)));
            rows.rows.push(vec![
                text(status.node().map_or("", |n| n.as_str())),
                text(if s.cold_storage == Some(true) { "cold" } else { "hot" }),
                text(if status.alive { "yes" } else { "no" }),
                Value::Text(format!("{:.1} s ago", status.age_seconds)),
                Value::Real((s.load * 100.0).round() / 100.0),
                number(s.segments),
                size(s.used_bytes),
                size(s.available_bytes),
                s.zone.as_deref().map_or(Value::Null, text),
                text(if s.draining { "yes" } else { "" }),
            ]);
        }
        self.show(&rows);
        Ok(())
    }

    async fn show_locks(&self) -> anyhow::Result<()> {
        let mut locks = self.discovery.catalog().locks().await?;
        let mut rows = Rows::new(&["segment", "node", "under_promotion"]);
        while let Some(lock) = locks.next().await {
            let lock = lock?;
            rows.rows.push(vec![
                Value::Text(lock.segment.to_string()),
                Value::Text(lock.node.to_string()),
                Value::Text(if lock.under_promotion { "yes" } else { "" }.into()),
            ]);
        }
        self.show(&rows);
        Ok(())
    }

    async fn connect(&mut self, segments: Segments) -> anyhow::Result<()> {
        let ids = match segments {
            Segments::Ids(ids) => parse_ids(&ids)?,
            Segments::Matching(pattern) => {
                let found = self.discovery.all(&self.pattern(Some(&pattern))?).await?;
                let mut ids: Vec<SegmentId> = found.entries.iter().map(|(id, _)| id.clone()).collect();
                ids.sort_unstable();
                if ids.is_empty() {
                    bail!("no segment matches {pattern:?}");
                }
                ids
            }
        };
        self.seen.extend(ids.iter().take(1000).map(ToString::to_string));
        self.segments = ids;
        Ok(())
    }

    async fn provision(&self, ids: &[String]) -> anyhow::Result<()> {
        self.need_writable("provisioning")?;
        let ids = parse_ids(ids)?;
        let results = self.writes.provision(&ids, &self.schema).await?;
        let mut rows = Rows::new(&["segment", "write_url", "error"]);
        let mut failed = 0;
        for id in &ids {
            let (url, error) = match results.get(id) {
                Some(Ok(p)) => (Value::Text(p.write_url.clone()), Value::Null),
                Some(Err(e)) => (Value::Null, Value::Text(e.message.clone())),
                None => (Value::Null, Value::Text("no answer".into())),
            };
            failed += usize::from(url == Value::Null);
            rows.rows.push(vec![Value::Text(id.to_string()), url, error]);
        }
        self.show(&rows);
        if failed > 0 {
            bail!("{failed} of {} segments could not be provisioned", ids.len());
        }
        Ok(())
    }

    async fn promote(&self, which: Option<Segments>) -> anyhow::Result<()> {
        self.need_writable("promoting")?;
        let set = match which {
            None => {
                self.need_segments()?;
                PromoteSet::Ids(self.segments.clone())
            }
            Some(Segments::Ids(ids)) => PromoteSet::Ids(parse_ids(&ids)?),
            Some(Segments::Matching(pattern)) => PromoteSet::Matching(pattern),
        };
        let mut promotions = self.writes.promote(set).await?;
        let (mut done, mut failed) = (0, 0);
        while let Some(promoted) = promotions.next().await {
            let promoted = promoted?;
            match promoted.result {
                Ok(path) => {
                    done += 1;
                    println!("{}: {path}", promoted.segment);
                }
                Err(e) => {
                    failed += 1;
                    eprintln!("{}: {}", promoted.segment, e.message);
                }
            }
        }
        println!("{done} promoted");
        if failed > 0 {
            bail!("{failed} could not be promoted");
        }
        Ok(())
    }

    async fn shred(&mut self, ids: &[String]) -> anyhow::Result<()> {
        self.need_writable("shredding")?;
        for id in parse_ids(ids)? {
            let report = self.writes.shred(&id).await?;
            for step in report.steps {
                let part = |name: &str| step.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
                println!("{id}: {}: {}", part("step"), part("detail"));
            }
            self.segments.retain(|s| *s != id);
        }
        Ok(())
    }

    async fn register(&self, schema: &str, file: &str) -> anyhow::Result<()> {
        let sql = std::fs::read_to_string(file).with_context(|| format!("read {file}"))?;
        let created = self.writes.register_schema(&SchemaId::new(schema)?, &sql).await?;
        println!("schema {schema} is {}", if created { "registered" } else { "replaced" });
        Ok(())
    }
}

/// Ids as typed.
pub(super) fn parse_ids(ids: &[String]) -> anyhow::Result<Vec<SegmentId>> {
    ids.iter().map(|id| SegmentId::new(id).map_err(Into::into)).collect()
}
