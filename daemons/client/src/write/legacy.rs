//! The old endpoints: one SELECT on the read port, one SQL script on the write port.

use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use trough_core::{ErrorCode, SegmentError, SegmentId, trace::TRACEPARENT};

use super::{WriteClient, WriteError, left};
use crate::{
    discovery::{base_url, pick},
    http,
};

/// An old answer's bytes: `[` rows as JSON objects `]`.
pub type JsonRows = Pin<Box<dyn Stream<Item = Result<Bytes, WriteError>> + Send>>;

impl WriteClient {
    /// Runs one SELECT on one segment by the old endpoint and streams the JSON text as it comes. Another copy is tried while nothing has come.
    ///
    /// # Errors
    /// [`WriteError::Segment`], naming the worker.
    pub async fn legacy_read(&self, segment: &SegmentId, sql: &str) -> Result<JsonRows, WriteError> {
        const WHAT: &str = "read";
        let deadline = self.deadline();
        let located = self.discovery.find(std::slice::from_ref(segment)).await?;
        let Some((_, copies)) = located.entries.first() else {
            let error = SegmentError::new(ErrorCode::UnknownSegment, "no live worker serves it");
            return Err(WriteError::Segment { what: WHAT, segment: segment.clone(), node: None, error });
        };
        let mut tried: Vec<String> = Vec::new();
        let mut last = None;
        while let Some(n) = pick(&located.endpoints, copies, &[], |e| !tried.iter().any(|t| **t == *e.url)) {
            let endpoint = &located.endpoints[n as usize];
            let url = format!("{}?segment={}", endpoint.url, segment.url_encoded());
            let fail = |error| WriteError::Segment {
                what: WHAT,
                segment: segment.clone(),
                node: Some(endpoint.node.id.clone()),
                error,
            };
            let request = http::post(&self.client, url, "text/plain", "application/json", sql.as_bytes().to_vec());
            match tokio::time::timeout(left(deadline), request.send()).await {
                Err(_) => return Err(self.late(WHAT)),
                Ok(Ok(answer)) if answer.status().is_success() => {
                    let (segment, node) = (segment.clone(), endpoint.node.id.clone());
                    return Ok(Box::pin(answer.bytes_stream().map(move |piece| {
                        piece.map_err(|e| WriteError::Segment {
                            what: WHAT,
                            segment: segment.clone(),
                            node: Some(node.clone()),
                            error: SegmentError::new(ErrorCode::Unavailable, http::chain(&e)),
                        })
                    })));
                }
                // The worker has looked at the statement: another would say the same.
                Ok(Ok(answer)) => return Err(fail(http::failure(answer).await)),
                Ok(Err(e)) => {
                    endpoint.node.report_failure(self.discovery.failure_memory());
                    last = Some(fail(SegmentError::new(ErrorCode::Unavailable, http::chain(&e))));
                }
            }
            tried.push(endpoint.url.to_string());
        }
        self.discovery.invalidate(segment);
        Err(last.unwrap_or_else(|| self.late(WHAT)))
    }

    /// Runs an SQL script in one transaction on one segment by the old endpoint; the segment is provisioned if need be.
    ///
    /// # Errors
    /// [`WriteError::Segment`], naming what the worker said.
    pub async fn write_script(&self, segment: &SegmentId, sql: &str) -> Result<(), WriteError> {
        const WHAT: &str = "write";
        let deadline = self.deadline();
        let fail = |error| WriteError::Segment { what: WHAT, segment: segment.clone(), node: None, error };
        let provisioned =
            self.provision_until(std::slice::from_ref(segment), &self.options.schema, deadline).await?.remove(segment);
        let missing = || Err(SegmentError::new(ErrorCode::Internal, "the sync master said nothing of it"));
        let provisioned = provisioned.unwrap_or_else(missing).map_err(fail)?;
        let url = format!("{}?segment={}", base_url(&provisioned.write_url), segment.url_encoded());
        let mut request = http::post(&self.client, url, "application/sql", "text/plain", sql.as_bytes().to_vec())
            .timeout(left(deadline));
        if let Some(trace) = self.options.trace {
            request = request.header(TRACEPARENT, trace.to_string());
        }
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(fail(http::failure(answer).await)),
            Err(e) => {
                let sent = if e.is_connect() { "" } else { "; whether it was kept is not known" };
                Err(fail(SegmentError::new(ErrorCode::Unavailable, format!("{}{sent}", http::chain(&e)))))
            }
        }
    }
}
