//! Transactions on segments: grouped by the worker that holds the lock, results in the order asked.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use reqwest::{StatusCode, header::CONTENT_TYPE};
use trough_core::{
    ErrorCode, SegmentError, SegmentId,
    trace::TRACEPARENT,
    wire::{MSGPACK, SegmentWrite, WriteRequest, WriteResponse, WriteResult},
};

use super::{WriteClient, WriteError, left};
use crate::http;

/// Some writes of one request, by their place in the caller's list.
struct Group {
    base: Arc<str>,
    places: Vec<usize>,
}

/// How often a write that was certainly not kept is sent.
const ROUNDS: usize = 3;
/// The pause before the last time.
const PAUSE: Duration = Duration::from_millis(300);

/// What a request came to.
enum Answer {
    /// A result per write.
    Results(Vec<WriteResult>),
    /// Nothing was sent: it can be sent again.
    NeverSent(SegmentError),
    /// Nobody knows what became of it.
    Failed(SegmentError),
}

impl WriteClient {
    /// Writes, one transaction per element; the results stand in the order of `writes`. Segments that nobody can write yet are
    /// provisioned from the options' schema. A worker that has lost a lock in between says so, and the write is sent again where the lock is now. Name each
    /// segment once: transactions on the same segment go in one request, but a retry may reorder them.
    ///
    /// # Errors
    /// [`WriteError`] if segments cannot be provisioned at all. What fails by segment stands in its [`WriteResult`]; with code
    /// `unavailable` it is not known whether the transaction was kept.
    pub async fn write(&self, writes: Vec<SegmentWrite>) -> Result<Vec<WriteResult>, WriteError> {
        let deadline = self.deadline();
        let mut results: Vec<Option<WriteResult>> = (0..writes.len()).map(|_| None).collect();
        let mut open: Vec<usize> = (0..writes.len()).collect();
        for round in 0..ROUNDS {
            if round > 1 && !open.is_empty() {
                tokio::time::sleep(PAUSE.min(left(deadline))).await;
            }
            let groups = self.group(&writes, &mut open, &mut results, deadline).await?;
            let answers: Vec<(Group, Answer)> = stream::iter(groups)
                .map(|group| async {
                    let answer = self.send(&group, &writes, deadline).await;
                    (group, answer)
                })
                .buffer_unordered(self.options.max_in_flight.max(1))
                .collect()
                .await;
            for (group, answer) in answers {
                self.take(group, answer, &writes, round + 1 < ROUNDS, &mut open, &mut results);
            }
            if open.is_empty() {
                break;
            }
        }
        let lost = || failed(SegmentError::new(ErrorCode::Internal, "no result was recorded"));
        Ok(results.into_iter().map(|r| r.unwrap_or_else(lost)).collect())
    }

    /// Takes the open writes and groups them by worker; what cannot be provisioned gets its result.
    async fn group(
        &self,
        writes: &[SegmentWrite],
        open: &mut Vec<usize>,
        results: &mut [Option<WriteResult>],
        deadline: Instant,
    ) -> Result<Vec<Group>, WriteError> {
        let mut seen = HashSet::new();
        let unknown: Vec<SegmentId> = open
            .iter()
            .map(|i| &writes[*i].segment)
            .filter(|s| self.writers.get(*s).is_none() && seen.insert(*s))
            .cloned()
            .collect();
        let mut refused = HashMap::new();
        if !unknown.is_empty() {
            let provisioned = self.provision_until(&unknown, &self.options.schema, deadline).await?;
            refused.extend(provisioned.into_iter().filter_map(|(s, r)| Some((s, r.err()?))));
        }
        let mut by_worker: HashMap<Arc<str>, Vec<usize>> = HashMap::new();
        for place in std::mem::take(open) {
            let segment = &writes[place].segment;
            match (refused.get(segment), self.writers.get(segment)) {
                (None, Some(base)) => by_worker.entry(base).or_default().push(place),
                (error, _) => {
                    let gone = || SegmentError::new(ErrorCode::Unavailable, "no worker takes writes of it");
                    results[place] = Some(failed(error.cloned().unwrap_or_else(gone)));
                }
            }
        }
        let mut groups = Vec::new();
        for (base, mut places) in by_worker {
            // Transactions on one segment stay together, in their order.
            places.sort_by(|a, b| (&writes[*a].segment, *a).cmp(&(&writes[*b].segment, *b)));
            let (mut part, mut bytes) = (Vec::new(), 0);
            for place in places {
                let size = size_of_write(&writes[place]);
                let same = part.last().is_some_and(|last: &usize| writes[*last].segment == writes[place].segment);
                let full =
                    part.len() >= self.options.segments_per_request || bytes + size > self.options.bytes_per_request;
                if full && !same && !part.is_empty() {
                    groups.push(Group { base: base.clone(), places: std::mem::take(&mut part) });
                    bytes = 0;
                }
                part.push(place);
                bytes += size;
            }
            groups.push(Group { base, places: part });
        }
        Ok(groups)
    }

    async fn send(&self, group: &Group, writes: &[SegmentWrite], deadline: Instant) -> Answer {
        let time_left = left(deadline);
        if time_left.is_zero() {
            let why = format!("not sent within {:?}; nothing was kept", self.options.timeout);
            return Answer::Failed(SegmentError::new(ErrorCode::Deadline, why));
        }
        let request = WriteRequest {
            writes: group.places.iter().map(|i| writes[*i].clone()).collect(),
            deadline_ms: Some((time_left.as_millis() as u64).max(1)),
        };
        let body = match rmp_serde::to_vec_named(&request) {
            Ok(body) => body,
            Err(e) => return Answer::Failed(SegmentError::new(ErrorCode::BadRequest, e.to_string())),
        };
        let url = format!("{}v1/write", group.base);
        let mut post = http::post(&self.client, url, MSGPACK, MSGPACK, body).timeout(time_left);
        if let Some(trace) = self.options.trace {
            post = post.header(TRACEPARENT, trace.to_string());
        }
        let unknown = |why: String| {
            let text = format!("worker at {}: {why}; whether the transaction was kept is not known", group.base);
            Answer::Failed(SegmentError::new(ErrorCode::Unavailable, text))
        };
        let response = match post.send().await {
            Ok(response) => response,
            Err(e) if e.is_connect() => {
                let why = format!("worker at {}: {}", group.base, http::chain(&e));
                return Answer::NeverSent(SegmentError::new(ErrorCode::Unavailable, why));
            }
            Err(e) => return unknown(http::chain(&e)),
        };
        let status = response.status();
        if !status.is_success() {
            let error = http::failure(response).await;
            return match status {
                // The worker is starting or stopping and has looked at nothing.
                StatusCode::SERVICE_UNAVAILABLE => Answer::NeverSent(error),
                // A refusal before anything was run.
                status if status.is_client_error() => Answer::Failed(error),
                _ => unknown(error.to_string()),
            };
        }
        let is_msgpack =
            response.headers().get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(MSGPACK.as_bytes()));
        let bytes = match response.bytes().await {
            Ok(bytes) => bytes,
            Err(e) => return unknown(http::chain(&e)),
        };
        let answer: Result<WriteResponse, String> = if is_msgpack {
            rmp_serde::from_slice(&bytes).map_err(|e| e.to_string())
        } else {
            serde_json::from_slice(&bytes).map_err(|e| e.to_string())
        };
        match answer {
            Ok(answer) if answer.results.len() == group.places.len() => Answer::Results(answer.results),
            Ok(answer) => {
                unknown(format!("{} results came for {} transactions", answer.results.len(), group.places.len()))
            }
            Err(e) => unknown(format!("the answer cannot be read: {e}")),
        }
    }

    fn take(
        &self,
        group: Group,
        answer: Answer,
        writes: &[SegmentWrite],
        may_repeat: bool,
        open: &mut Vec<usize>,
        results: &mut [Option<WriteResult>],
    ) {
        let again = |place: usize, open: &mut Vec<usize>| {
            self.writers.invalidate(&writes[place].segment);
            open.push(place);
        };
        match answer {
            Answer::Results(all) => {
                for (place, result) in group.places.into_iter().zip(all) {
                    let moved = matches!(&result, WriteResult::Err { error }
                        if matches!(error.code, ErrorCode::NotWritable | ErrorCode::Moved | ErrorCode::UnknownSegment));
                    if moved {
                        self.writers.invalidate(&writes[place].segment);
                    }
                    if moved && may_repeat {
                        open.push(place);
                    } else {
                        results[place] = Some(result);
                    }
                }
            }
            Answer::NeverSent(_) if may_repeat => group.places.into_iter().for_each(|place| again(place, open)),
            Answer::NeverSent(error) | Answer::Failed(error) => {
                for place in group.places {
                    self.writers.invalidate(&writes[place].segment);
                    results[place] = Some(failed(error.clone()));
                }
            }
        }
    }
}

fn failed(error: SegmentError) -> WriteResult {
    WriteResult::Err { error }
}

/// About how many bytes a transaction takes in a body.
fn size_of_write(write: &SegmentWrite) -> usize {
    use trough_core::Value;
    let value = |v: &Value| match v {
        Value::Text(t) => t.len() + 3,
        Value::Blob(b) => b.len() * 4 / 3 + 16,
        _ => 12,
    };
    let rows = |s: &trough_core::wire::WriteStatement| {
        s.rows.iter().flatten().map(value).sum::<usize>() + s.packed.as_ref().map_or(0, |p| p.data.len() + 32)
    };
    write.statements.iter().map(|s| s.sql.len() + rows(s) + 32).sum::<usize>() + write.segment.as_str().len() + 48
}
