//! What the sync master does: provision, promote, shred, schemas.

use std::{
    collections::HashMap,
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use reqwest::{Method, header::CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use trough_core::{
    ErrorCode, NodeId, SchemaId, SegmentError, SegmentId, describe::SchemaDescription, trace::TRACEPARENT, wire::NDJSON,
};

use super::{MASTER_AGE, WriteClient, WriteError, left};
use crate::{discovery::base_url, http};

/// A segment that can be written now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisioned {
    /// The URL to post scripts to (`http://HOST:PORT/?segment=ID`).
    pub write_url: String,
    /// Bytes of the segment, where the worker said.
    pub size: Option<u64>,
}

/// What to promote.
#[derive(Clone, Debug)]
pub enum PromoteSet {
    /// These segments.
    Ids(Vec<SegmentId>),
    /// Every write-locked segment whose id the regular expression matches.
    Matching(String),
}

/// What became of one promotion.
#[derive(Clone, Debug)]
pub struct Promoted {
    /// Which segment.
    pub segment: SegmentId,
    /// Where its canonical copy lies now, or why it does not.
    pub result: Result<String, SegmentError>,
}

/// Promotions as they get done.
pub type Promotions = Pin<Box<dyn Stream<Item = Result<Promoted, WriteError>> + Send>>;

/// What shredding did, step by step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShredReport {
    /// The steps, in order.
    pub steps: Vec<Json>,
}

#[derive(Deserialize)]
struct ProvisionResponse {
    results: Vec<ProvisionResult>,
}

#[derive(Deserialize)]
struct ProvisionResult {
    segment: SegmentId,
    #[serde(default)]
    write_url: Option<String>,
    #[serde(default)]
    error: Option<SegmentError>,
    #[serde(default)]
    size: Option<u64>,
}

#[derive(Deserialize)]
struct PromoteLine {
    segment: SegmentId,
    #[serde(default)]
    remote_path: Option<String>,
    #[serde(default)]
    error: Option<Json>,
}

/// Whether doing a thing twice is doing it once.
#[derive(Clone, Copy, PartialEq)]
enum Repeatable {
    Yes,
    No,
}

/// How many segments one provisioning request names.
const PROVISION_BATCH: usize = 1_000;
/// The pause before a master is looked for again.
const MASTER_PAUSE: Duration = Duration::from_millis(200);

impl WriteClient {
    /// Makes the segments writable: each gets a worker that holds its write lock, and a file from `schema` if it is new. In
    /// batches; the result has every segment.
    ///
    /// # Errors
    /// [`WriteError`] if the master cannot be asked or refuses the whole; single segments fail in the map.
    pub async fn provision(
        &self,
        segments: &[SegmentId],
        schema: &SchemaId,
    ) -> Result<HashMap<SegmentId, Result<Provisioned, SegmentError>>, WriteError> {
        self.provision_until(segments, schema, self.deadline()).await
    }

    pub(super) async fn provision_until(
        &self,
        segments: &[SegmentId],
        schema: &SchemaId,
        deadline: Instant,
    ) -> Result<HashMap<SegmentId, Result<Provisioned, SegmentError>>, WriteError> {
        const WHAT: &str = "provision segments";
        let mut all = HashMap::with_capacity(segments.len());
        for batch in segments.chunks(PROVISION_BATCH) {
            let body = json!({"segments": batch, "schema": schema});
            let answer =
                self.at_master(WHAT, Method::POST, "v1/provision", Some(body), deadline, Repeatable::Yes).await?;
            let answer: ProvisionResponse = read_json(WHAT, answer, deadline).await?;
            for one in answer.results {
                let result = match (one.write_url, one.error) {
                    (Some(write_url), None) => Ok(Provisioned { write_url, size: one.size }),
                    (_, Some(error)) => Err(error),
                    (None, None) => Err(SegmentError::new(ErrorCode::Internal, "neither write_url nor error came")),
                };
                all.insert(one.segment, result);
            }
            for segment in batch {
                all.entry(segment.clone()).or_insert_with(|| {
                    Err(SegmentError::new(ErrorCode::Internal, "the sync master's answer leaves the segment out"))
                });
            }
        }
        let ready = || all.iter().filter_map(|(s, r)| Some((s, r.as_ref().ok()?.write_url.as_str())));
        ready().for_each(|(segment, url)| self.writers.insert(segment.clone(), base_url(url).into()));
        self.discovery.note_provisioned(ready());
        Ok(all)
    }

    /// Promotes segments to the canonical store; each result comes as it is done.
    ///
    /// # Errors
    /// [`WriteError`] if the master cannot be asked; single segments fail in their results.
    pub async fn promote(&self, what: PromoteSet) -> Result<Promotions, WriteError> {
        const WHAT: &str = "promote segments";
        let body = match what {
            PromoteSet::Ids(segments) => json!({"segments": segments}),
            PromoteSet::Matching(pattern) => json!({"matching": pattern}),
        };
        let deadline = self.deadline();
        let answer = self.at_master(WHAT, Method::POST, "v1/promote", Some(body), deadline, Repeatable::No).await?;
        let url = answer.url().to_string();
        let lines = lines(WHAT, url, answer, self.options.timeout);
        Ok(Box::pin(lines.map(|line| line.and_then(|(url, line)| read_promoted(&url, &line)))))
    }

    /// Removes a segment everywhere: copies, records and the canonical file.
    ///
    /// # Errors
    /// [`WriteError`]; with [`ErrorCode::UnknownSegment`] if there is no such segment.
    pub async fn shred(&self, segment: &SegmentId) -> Result<ShredReport, WriteError> {
        const WHAT: &str = "shred a segment";
        let deadline = self.deadline();
        let path = format!("v1/segment/{}", segment.url_encoded());
        let answer = self.at_master(WHAT, Method::DELETE, &path, None, deadline, Repeatable::No).await?;
        let report = read_json(WHAT, answer, deadline).await?;
        self.writers.invalidate(segment);
        self.discovery.invalidate(segment);
        Ok(report)
    }

    /// Has a worker emptied: it gets nothing new, and its segments move away; or takes that back.
    ///
    /// # Errors
    /// [`WriteError`]; with [`ErrorCode::BadRequest`] if there is no such node.
    pub async fn drain(&self, node: &NodeId, drain: bool) -> Result<(), WriteError> {
        let body = json!({"node": node, "drain": drain});
        self.at_master("drain a worker", Method::POST, "v1/drain", Some(body), self.deadline(), Repeatable::Yes)
            .await?;
        Ok(())
    }

    /// Registers or replaces a schema; whether it is new. The master runs the script on an empty database first.
    ///
    /// # Errors
    /// [`WriteError`]; with [`ErrorCode::BadRequest`] and SQLite's reason if the script does not run.
    pub async fn register_schema(&self, id: &SchemaId, sql: &str) -> Result<bool, WriteError> {
        const WHAT: &str = "register a schema";
        let body = json!({"id": id, "sql": sql});
        let path = format!("schema/{}", id.url_encoded());
        let answer = self.at_master(WHAT, Method::PUT, &path, Some(body), self.deadline(), Repeatable::No).await?;
        Ok(answer.status() == reqwest::StatusCode::CREATED)
    }

    /// The tables and views that a registered schema's script makes.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn describe_schema(&self, id: &SchemaId) -> Result<SchemaDescription, WriteError> {
        const WHAT: &str = "describe a schema";
        let deadline = self.deadline();
        let path = format!("v1/schema/{}/describe", id.url_encoded());
        let answer = self.at_master(WHAT, Method::GET, &path, None, deadline, Repeatable::Yes).await?;
        read_json(WHAT, answer, deadline).await
    }

    /// Asks the sync master, and another one if it is gone: while no connection is made, or a server says that it is not (or has no) master,
    /// until the deadline. What a master may have begun is sent again only if doing it twice is doing it once.
    async fn at_master(
        &self,
        what: &'static str,
        method: Method,
        path: &str,
        body: Option<Json>,
        deadline: Instant,
        repeatable: Repeatable,
    ) -> Result<reqwest::Response, WriteError> {
        let mut last = None;
        loop {
            if left(deadline).is_zero() {
                return Err(
                    last.map_or_else(|| self.late(what), |last| WriteError::NoMaster { what, last: Some(last) })
                );
            }
            let known = tokio::time::timeout(left(deadline), self.master_base(what, last.is_some())).await;
            let base = match known.map_err(|_| self.late(what))? {
                Ok(base) => base,
                Err(WriteError::NoMaster { .. }) => {
                    last.get_or_insert_with(|| "none in the catalog".to_owned());
                    tokio::time::sleep(MASTER_PAUSE.min(left(deadline))).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let url = format!("{base}{path}");
            let mut request = self.client.request(method.clone(), &url).timeout(left(deadline));
            if let Some(body) = &body {
                request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
            }
            if let Some(trace) = self.options.trace {
                request = request.header(TRACEPARENT, trace.to_string());
            }
            match request.send().await {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) => {
                    let status = answer.status();
                    let mut error = http::failure(answer).await;
                    if status == reqwest::StatusCode::SERVICE_UNAVAILABLE {
                        last = Some(format!("{url}: {error}"));
                    } else {
                        if status == reqwest::StatusCode::NOT_FOUND && error.code == ErrorCode::Unavailable {
                            error.code = ErrorCode::UnknownSegment;
                        }
                        return Err(WriteError::Refused { what, url, error });
                    }
                }
                Err(e) if e.is_connect() => last = Some(format!("{url}: {}", http::chain(&e))),
                Err(e) if e.is_timeout() => return Err(self.late(what)),
                Err(e) if repeatable == Repeatable::Yes => last = Some(format!("{url}: {}", http::chain(&e))),
                Err(e) => {
                    let error = SegmentError::new(
                        ErrorCode::Unavailable,
                        format!("{}; whether it was done is not known", http::chain(&e)),
                    );
                    return Err(WriteError::Refused { what, url, error });
                }
            }
            tokio::time::sleep(MASTER_PAUSE.min(left(deadline))).await;
        }
    }

    /// Base URL of the living master's segment manager.
    async fn master_base(&self, what: &'static str, anew: bool) -> Result<String, WriteError> {
        if !anew
            && let Some((master, at)) = &*self.master.lock()
            && at.elapsed() < MASTER_AGE
        {
            return Ok(base_url(&master.url));
        }
        match self.catalog().master().await? {
            Some((master, true)) => {
                let base = base_url(&master.url);
                *self.master.lock() = Some((master, Instant::now()));
                Ok(base)
            }
            _ => Err(WriteError::NoMaster { what, last: None }),
        }
    }
}

async fn read_json<T: serde::de::DeserializeOwned>(
    what: &'static str,
    answer: reqwest::Response,
    deadline: Instant,
) -> Result<T, WriteError> {
    let url = answer.url().to_string();
    let refused = |why: String| WriteError::Refused {
        what,
        url: url.clone(),
        error: SegmentError::new(ErrorCode::Unavailable, why),
    };
    let bytes = tokio::time::timeout(left(deadline), answer.bytes()).await;
    let bytes = bytes
        .map_err(|_| refused("the answer did not come in time".into()))?
        .map_err(|e| refused(format!("the answer broke off: {}", http::chain(&e))))?;
    serde_json::from_slice(&bytes).map_err(|e| refused(format!("the answer cannot be read: {e}")))
}

/// The longest line that is believed.
const MAX_LINE: usize = 1 << 20;

/// The lines of an answer, each with the URL for errors.
fn lines(
    what: &'static str,
    url: String,
    answer: reqwest::Response,
    silence: Duration,
) -> impl Stream<Item = Result<(String, Bytes), WriteError>> + Send {
    let _ = NDJSON;
    futures::stream::unfold(Some((answer, BytesMut::new())), move |state| {
        let url = url.clone();
        async move {
            let (mut answer, mut buffer) = state?;
            loop {
                if let Some(end) = buffer.iter().position(|b| *b == b'\n') {
                    let line = buffer.split_to(end + 1).freeze();
                    if line.iter().all(u8::is_ascii_whitespace) {
                        continue;
                    }
                    return Some((Ok((url, line)), Some((answer, buffer))));
                }
                let broken = |why: String| {
                    let error = SegmentError::new(ErrorCode::Unavailable, why);
                    Some((Err(WriteError::Refused { what, url: url.clone(), error }), None))
                };
                if buffer.len() > MAX_LINE {
                    return broken(format!("a line is longer than {MAX_LINE} bytes"));
                }
                match tokio::time::timeout(silence, answer.chunk()).await {
                    Ok(Ok(Some(bytes))) => buffer.extend_from_slice(&bytes),
                    Ok(Ok(None)) if buffer.is_empty() => return None,
                    Ok(Ok(None)) => buffer.extend_from_slice(b"\n"),
                    Ok(Err(e)) => return broken(format!("the answer broke off: {}", http::chain(&e))),
                    Err(_) => return broken(format!("nothing came for {silence:?}")),
                }
            }
        }
    })
}

fn read_promoted(url: &str, line: &[u8]) -> Result<Promoted, WriteError> {
    let line: PromoteLine = serde_json::from_slice(line).map_err(|e| WriteError::Refused {
        what: "promote segments",
        url: url.to_owned(),
        error: SegmentError::new(
            ErrorCode::Unavailable,
            format!("a line cannot be read: {e}: {}", String::from_utf8_lossy(&line[..line.len().min(200)])),
        ),
    })?;
    let result = match (line.remote_path, line.error) {
        (Some(path), None) => Ok(path),
        (_, Some(Json::String(why))) => Err(SegmentError::new(ErrorCode::Internal, why)),
        (_, Some(error)) => Err(serde_json::from_value(error.clone())
            .unwrap_or_else(|_| SegmentError::new(ErrorCode::Internal, error.to_string()))),
        (None, None) => Err(SegmentError::new(ErrorCode::Internal, "neither remote_path nor error came")),
    };
    Ok(Promoted { segment: line.segment, result })
}
