//! Who makes a request, as the handlers see it.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{Extensions, StatusCode, request::Parts},
    response::Response,
};
use regex::Regex;
use trough_config::Role;
use trough_core::{ErrorCode, SegmentError, SegmentId};

use crate::respond::{plain, server_error};

/// Who makes a request, and which segments that one may touch. Every request that a role let through carries one.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    /// The whole id must match; none: all segments.
    pub(crate) segments: Option<Arc<Regex>>,
}

impl Caller {
    /// The token's name, or `anonymous`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether everything may be done, as a sync master may.
    pub fn is_admin(&self) -> bool {
        self.role >= Role::Admin
    }

    /// Whether only some segments may be touched.
    pub fn is_restricted(&self) -> bool {
        self.segments.is_some()
    }

    /// What the ids of the segments that may be touched match; none: all of them may.
    pub fn pattern(&self) -> Option<&Regex> {
        self.segments.as_deref()
    }

    /// Whether the segment may be touched.
    pub fn allows(&self, segment: &str) -> bool {
        self.segments.as_ref().is_none_or(|pattern| pattern.is_match(segment))
    }

    /// The same as a result.
    ///
    /// # Errors
    /// What the client is told: code [`ErrorCode::Unauthorized`].
    pub fn check(&self, segment: &SegmentId) -> Result<(), SegmentError> {
        if self.allows(segment.as_str()) { Ok(()) } else { Err(self.refusal(segment.as_str())) }
    }

    /// What is told of a segment that may not be touched.
    pub fn refusal(&self, segment: &str) -> SegmentError {
        let message = format!("the token '{}' may not use segment '{segment}'", self.name);
        SegmentError::new(ErrorCode::Unauthorized, message)
    }

    /// As an answer of the old endpoints: status 403.
    ///
    /// # Errors
    /// The answer.
    pub fn check_plain(&self, segment: &SegmentId) -> Result<(), Response> {
        self.check(segment).map_err(|e| plain(StatusCode::FORBIDDEN, format!("403 Forbidden: {}\n", e.message)))
    }

    /// The caller of a request, off its extensions.
    ///
    /// # Errors
    /// An answer, for a route that no rule stands before: such a route serves nobody.
    pub fn of(extensions: &Extensions) -> Result<Self, Response> {
        extensions.get::<Self>().cloned().ok_or_else(|| server_error("no rule says who may use this route"))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        Self::of(&parts.extensions)
    }
}
