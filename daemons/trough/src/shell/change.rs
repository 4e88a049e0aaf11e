//! The commands that change what there is: PROVISION, PROMOTE, SHRED, REGISTER.

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use trough_client::write::PromoteSet;
use trough_core::{SchemaId, Value};

use super::{
    command::Segments,
    connected::Connected,
    session::{Next, Session, parse_ids},
};

impl Session {
    pub(super) async fn provision(&mut self, ids: &[String]) -> anyhow::Result<()> {
        self.need_writable("provisioning")?;
        let ids = parse_ids(ids)?;
        let results = self.writes.provision(&ids, &self.schema).await?;
        let mut rows = Vec::new();
        let mut failed = 0;
        for id in &ids {
            let (url, error) = match results.get(id) {
                Some(Ok(p)) => (Value::Text(p.write_url.clone()), Value::Null),
                Some(Err(e)) => (Value::Null, Value::Text(e.message.clone())),
                None => (Value::Null, Value::Text("no answer".into())),
            };
            failed += usize::from(url == Value::Null);
            rows.push(vec![Value::Text(id.to_string()), url, error]);
        }
        self.print_rows(&["segment", "write_url", "error"], rows)?;
        if failed > 0 {
            bail!("{failed} of {} segments could not be provisioned", ids.len());
        }
        Ok(())
    }

    pub(super) async fn promote(&mut self, which: Option<&Segments>) -> anyhow::Result<()> {
        self.need_writable("promoting segments")?;
        let set = match which {
            None => {
                self.need_segments()?;
                match &self.connected {
                    Connected::Ids(ids) => PromoteSet::Ids(ids.clone()),
                    Connected::Matching { text, .. } => {
                        bail!("so many segments are promoted by PROMOTE MATCHING {text}")
                    }
                }
            }
            Some(Segments::Ids(ids)) => PromoteSet::Ids(parse_ids(ids)?),
            Some(Segments::Matching(pattern)) => PromoteSet::Matching(pattern.clone()),
        };
        let mut promotions = self.writes.promote(set).await?;
        let (mut done, mut failed) = (0, 0);
        while let Some(promoted) = promotions.next().await {
            let promoted = promoted?;
            match promoted.result {
                Ok(path) => {
                    done += 1;
                    self.say(format_args!("{}: {path}", promoted.segment))?;
                }
                Err(e) => {
                    failed += 1;
                    self.out.error(&format!("segment {}: {}", promoted.segment, e.message));
                }
            }
        }
        self.say(format_args!("{done} promoted"))?;
        if failed > 0 {
            bail!("{failed} could not be promoted");
        }
        Ok(())
    }

    pub(super) async fn shred(&mut self, ids: &[String], confirmed: bool) -> anyhow::Result<Next> {
        self.need_writable("shredding")?;
        let segments = parse_ids(ids)?;
        let locks = self.discovery.catalog().locks_of_segments(&segments).await?;
        if let Some(lock) = locks.first() {
            bail!(
                "segment {} is being written on {}; PROMOTE it, and shred it once SHOW LOCKS no longer lists it",
                lock.segment,
                lock.node
            );
        }
        if !confirmed && !self.yes {
            let what = match segments.as_slice() {
                [one] => format!("segment {one}"),
                many => format!("{} segments", many.len()),
            };
            return Ok(Next::Confirm(format!(
                "Shred {what}: every copy, every record and the canonical file? This cannot be undone. (yes/no)"
            )));
        }
        for id in segments {
            let report = self.writes.shred(&id).await?;
            for step in report.steps {
                let part = |name: &str| step.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
                self.say(format_args!("{id}: {}: {}", part("step"), part("detail")))?;
            }
            self.connected.forget(&id);
        }
        Ok(Next::Continue)
    }

    pub(super) async fn register(&mut self, schema: &str, file: &str) -> anyhow::Result<()> {
        let sql = std::fs::read_to_string(file).with_context(|| format!("read {file}"))?;
        let created = self.writes.register_schema(&SchemaId::new(schema)?, &sql).await?;
        self.say(format_args!("schema {schema} is {}", if created { "registered" } else { "replaced" }))?;
        Ok(())
    }
}
