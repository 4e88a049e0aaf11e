//! Bearer tokens and roles, as a tower layer that costs nothing where everybody may do everything.

use std::{
    future::Ready,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use futures::future::Either;
use sha2::{Digest as _, Sha256};
use tower::{Layer, Service};
use trough_config::{Role, Settings, Token};

use crate::respond::{json_bytes, plain};

/// Who may do what.
#[derive(Clone, Debug)]
pub struct Auth {
    tokens: Arc<[Token]>,
    anonymous: Option<Role>,
}

impl Auth {
    /// From TOKENS and ANONYMOUS.
    pub fn new(settings: &Settings) -> Self {
        Self { tokens: settings.tokens.clone().into(), anonymous: settings.anonymous }
    }

    /// What the bearer of this `Authorization` header may do; none is a request without one.
    ///
    /// # Errors
    /// A text for the client, if the header is no bearer token or the token is unknown.
    pub fn role(&self, header: Option<&HeaderValue>) -> Result<Option<Role>, &'static str> {
        let Some(header) = header else { return Ok(self.anonymous) };
        let bearer = header
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .ok_or("the Authorization header holds no bearer token")?;
        let hash: [u8; 32] = Sha256::digest(bearer.1.trim()).into();
        // Hashes are compared, so the comparison's time tells nothing about a token.
        match self.tokens.iter().find(|token| token.sha256 == hash) {
            Some(token) => Ok(Some(self.anonymous.map_or(token.role, |role| role.max(token.role)))),
            None if self.tokens.is_empty() => Ok(self.anonymous),
            None => Err("the token is unknown"),
        }
    }

    /// Who sends a request: `{"role", "anonymous", "tokens"}`, each role `read`, `write`, `admin` or null; `tokens`:
    /// whether there are any. 401 for a token that is unknown.
    pub(crate) fn whoami(&self, headers: &HeaderMap) -> Response {
        let name = |role: Option<Role>| role.map(|role| format!("{role:?}").to_lowercase());
        match self.role(headers.get(header::AUTHORIZATION)) {
            Ok(role) => {
                let who = serde_json::json!({
                    "role": name(role), "anonymous": name(self.anonymous), "tokens": !self.tokens.is_empty(),
                });
                json_bytes(StatusCode::OK, who.to_string())
            }
            Err(why) => plain(StatusCode::UNAUTHORIZED, format!("401 Unauthorized: {why}\n")),
        }
    }

    fn refuse(&self, needed: Role, request: &Request) -> Option<Response> {
        if self.anonymous.is_some_and(|role| role >= needed) {
            return None;
        }
        let (status, why) = match self.role(request.headers().get(header::AUTHORIZATION)) {
            Ok(Some(role)) if role >= needed => return None,
            Ok(Some(role)) => {
                (StatusCode::FORBIDDEN, format!("the role {needed:?} is needed; this token has {role:?}"))
            }
            Ok(None) => (StatusCode::UNAUTHORIZED, format!("a token with the role {needed:?} is needed")),
            Err(why) => (StatusCode::UNAUTHORIZED, why.to_owned()),
        };
        let reason = status.canonical_reason().unwrap_or("Refused");
        let mut response = plain(status, format!("{} {reason}: {}\n", status.as_u16(), why.to_lowercase()));
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Some(response)
    }
}

/// A layer that lets only requests with a role through.
#[derive(Clone, Debug)]
pub struct RequireRole {
    pub(crate) auth: Auth,
    pub(crate) role: Role,
}

impl<S> Layer<S> for RequireRole {
    type Service = RoleGuard<S>;
    fn layer(&self, inner: S) -> RoleGuard<S> {
        RoleGuard { inner, rule: self.clone() }
    }
}

/// The service that [`RequireRole`] makes.
#[derive(Clone, Debug)]
pub struct RoleGuard<S> {
    inner: S,
    rule: RequireRole,
}

impl<S: Service<Request, Response = Response>> Service<Request> for RoleGuard<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.rule.auth.refuse(self.rule.role, &request) {
            None => Either::Left(self.inner.call(request)),
            Some(response) => Either::Right(std::future::ready(Ok(response))),
        }
    }
}
