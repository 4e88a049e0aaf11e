//! Bearer tokens and roles, as a tower layer before each route.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use axum::{
    extract::{ConnectInfo, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use futures::future::{BoxFuture, Either};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tower::{Layer, Service};
use trough_config::{Role, Settings, Token, tokens};

use crate::{
    caller::Caller,
    files::Seen,
    listener::peer_key,
    respond::{json_bytes, plain},
};

/// How often TOKENS_FILE is looked at.
const RELOAD_CHECK: Duration = Duration::from_secs(1);

/// Who may do what.
#[derive(Clone)]
pub struct Auth(Arc<Shared>);

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("anonymous", &self.0.anonymous).finish_non_exhaustive()
    }
}

struct Shared {
    fixed: Vec<Token>,
    /// TOKENS and TOKENS_FILE together.
    known: RwLock<Arc<Vec<Known>>>,
    /// Whether there can be tokens at all.
    guarded: bool,
    anonymous: Option<Role>,
    nobody: Caller,
    rate: Option<NonZeroU32>,
    /// By address, of requests without a token.
    strangers: Option<DefaultKeyedRateLimiter<IpAddr>>,
}

/// A token with what belongs to it.
struct Known {
    sha256: [u8; 32],
    role: Role,
    expires: Option<SystemTime>,
    caller: Caller,
    limiter: Option<(NonZeroU32, Arc<DefaultDirectRateLimiter>)>,
}

/// Why a request is not let through.
struct Refusal {
    status: StatusCode,
    why: String,
    who: Arc<str>,
    /// Seconds.
    retry_after: Option<u64>,
}

impl Auth {
    /// From TOKENS, TOKENS_FILE and ANONYMOUS. Inside a runtime, the file is followed for as long as this lives.
    pub fn new(settings: &Settings) -> Self {
        let rate = settings.http.rate_limit.and_then(NonZeroU32::new);
        let shared = Arc::new(Shared {
            fixed: settings.tokens.clone(),
            known: RwLock::default(),
            guarded: !settings.tokens.is_empty() || settings.tokens_file.is_some(),
            anonymous: settings.anonymous,
            nobody: Caller { name: "anonymous".into(), role: settings.anonymous.unwrap_or(Role::Read), segments: None },
            rate,
            strangers: rate.map(|rate| RateLimiter::keyed(Quota::per_second(rate))),
        });
        let mut seen = None;
        let listed = settings.tokens_file.as_ref().and_then(|path| {
            seen = Some(Seen::of([path.as_path()]));
            // It was readable when the settings were read. Should it be gone again, nobody of it is let in.
            tokens::read_file(path).inspect_err(|error| tracing::error!(%error, "TOKENS_FILE cannot be used")).ok()
        });
        shared.take(listed.unwrap_or_default());
        if let (Some(path), Ok(runtime)) = (&settings.tokens_file, tokio::runtime::Handle::try_current()) {
            runtime.spawn(follow(path.clone(), seen, Arc::downgrade(&shared)));
        }
        Self(shared)
    }

    /// Who sends a request: `{"role", "anonymous", "tokens", "name", "restricted"}`, each role `read`, `write`, `admin` or null;
    /// `tokens`: whether there are any; `restricted`: whether the token is for some segments only. 401 for a token that is unknown.
    pub(crate) fn whoami(&self, headers: &HeaderMap) -> Response {
        let shared = &*self.0;
        let known = shared.known.read().clone();
        let bearer = headers.get(header::AUTHORIZATION).filter(|bearer| shared.guarded && !bearer.is_empty());
        let token = match bearer.map(|bearer| find(&known, bearer)) {
            None => None,
            Some(Ok(token)) => Some(token),
            Some(Err(why)) => return plain(StatusCode::UNAUTHORIZED, format!("401 Unauthorized: {why}\n")),
        };
        let who = serde_json::json!({
            "role": token.map(|token| token.role).max(shared.anonymous).map(name_of),
            "anonymous": shared.anonymous.map(name_of),
            "tokens": shared.guarded,
            "name": token.map(|token| token.caller.name()),
            "restricted": token.is_some_and(|token| token.caller.is_restricted()),
        });
        json_bytes(StatusCode::OK, who.to_string())
    }

    /// Lets a request through, with who makes it.
    fn admit(&self, rule: Rule, headers: &HeaderMap, peer: Option<SocketAddr>) -> Result<Caller, Refusal> {
        let shared = &*self.0;
        let open = shared.anonymous.is_some_and(|role| role >= rule.role);
        let refuse = |status, why: String, who: &Arc<str>| Refusal { status, why, who: who.clone(), retry_after: None };
        let bearer = headers.get(header::AUTHORIZATION).filter(|_| shared.guarded);
        let Some(bearer) = bearer else {
            if !open {
                let why = format!("a token with the role {} is needed", name_of(rule.role));
                return Err(refuse(StatusCode::UNAUTHORIZED, why, &shared.nobody.name));
            }
            if let (Some(limiter), Some(rate), Some(peer)) = (&shared.strangers, shared.rate, peer)
                && limiter.check_key(&peer_key(peer.ip())).is_err()
            {
                return Err(too_many(rate, &shared.nobody.name));
            }
            return Ok(shared.nobody.clone());
        };
        let known = shared.known.read().clone();
        let token = find(&known, bearer)
            .map_err(|why| refuse(StatusCode::UNAUTHORIZED, why.to_owned(), &shared.nobody.name))?;
        let who = &token.caller.name;
        if !open && token.role < rule.role {
            let why = format!("the role {} is needed; this token has {}", name_of(rule.role), name_of(token.role));
            return Err(refuse(StatusCode::FORBIDDEN, why, who));
        }
        if !open && rule.whole && token.caller.is_restricted() {
            let why = format!("the token '{who}' is for some segments only, and this is about all of them");
            return Err(refuse(StatusCode::FORBIDDEN, why, who));
        }
        if let Some((rate, limiter)) = &token.limiter
            && limiter.check().is_err()
        {
            return Err(too_many(*rate, who));
        }
        // What everybody may do, the holder of a restricted token may do too.
        let segments = if open { None } else { token.caller.segments.clone() };
        let role = shared.anonymous.map_or(token.role, |role| role.max(token.role));
        Ok(Caller { name: who.clone(), role, segments })
    }
}

fn name_of(role: Role) -> &'static str {
    match role {
        Role::Read => "read",
        Role::Write => "write",
        Role::Admin => "admin",
    }
}

fn too_many(rate: NonZeroU32, who: &Arc<str>) -> Refusal {
    Refusal {
        status: StatusCode::TOO_MANY_REQUESTS,
        why: format!("more than {rate} requests a second (RATE_LIMIT, or the token's rate)"),
        who: who.clone(),
        retry_after: Some(1),
    }
}

/// The token of an `Authorization` header. Hashes are compared, all of them and in constant time, so that neither how long it
/// takes nor where it ends tells anything of a token.
fn find<'a>(known: &'a [Known], header: &HeaderValue) -> Result<&'a Known, &'static str> {
    let bearer = header
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .ok_or("the authorization header holds no bearer token")?;
    let hash: [u8; 32] = Sha256::digest(bearer.1.trim()).into();
    let mut found = None;
    for token in known {
        if bool::from(token.sha256.ct_eq(&hash)) {
            found = Some(token);
        }
    }
    match found {
        None => Err("the token is unknown"),
        Some(token) if token.expires.is_some_and(|end| SystemTime::now() >= end) => Err("the token has expired"),
        Some(token) => Ok(token),
    }
}

impl Shared {
    /// Takes what TOKENS_FILE lists. Tokens that stay keep what they have used of their rates.
    fn take(&self, listed: Vec<Token>) {
        let before = self.known.read().clone();
        let limiters: HashMap<[u8; 32], _> =
            before.iter().filter_map(|k| Some((k.sha256, k.limiter.clone()?))).collect();
        let known = self.fixed.iter().cloned().chain(listed).map(|token| {
            let rate = token.rate.and_then(NonZeroU32::new).or(self.rate.filter(|_| token.role < Role::Admin));
            let limiter = rate.map(|rate| match limiters.get(&token.sha256) {
                Some((same, limiter)) if *same == rate => (rate, limiter.clone()),
                _ => (rate, Arc::new(RateLimiter::direct(Quota::per_second(rate)))),
            });
            Known {
                sha256: token.sha256,
                role: token.role,
                expires: token.expires,
                caller: Caller { name: token.name, role: token.role, segments: token.segments },
                limiter,
            }
        });
        let known = Arc::new(known.collect());
        *self.known.write() = known;
    }
}

/// Reads the file again when it changes. One that cannot be used changes nothing.
async fn follow(path: PathBuf, mut seen: Option<Seen>, shared: Weak<Shared>) {
    let mut ticks = tokio::time::interval(RELOAD_CHECK);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        if let Some(strangers) = &shared.strangers {
            strangers.retain_recent();
        }
        let now = Some(Seen::of([path.as_path()]));
        if now == seen {
            continue;
        }
        seen = now;
        reload(&path, &shared);
    }
}

fn reload(path: &Path, shared: &Shared) {
    match tokens::read_file(path) {
        Ok(listed) => {
            let names: Vec<&str> = listed.iter().map(|token| &*token.name).collect();
            tracing::info!(file = %path.display(), tokens = names.join(", "), "tokens reloaded");
            shared.take(listed);
        }
        Err(error) => tracing::error!(%error, "TOKENS_FILE changed and cannot be used: the tokens stay as they were"),
    }
}

/// What a route asks of its callers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) role: Role,
    /// Whether it is about all segments, so that tokens for some are refused.
    pub(crate) whole: bool,
}

/// A layer that lets only requests with a role through, and tells the handlers who makes them.
#[derive(Clone, Debug)]
pub struct RequireRole {
    pub(crate) auth: Auth,
    pub(crate) rule: Rule,
}

impl<S> Layer<S> for RequireRole {
    type Service = RoleGuard<S>;
    fn layer(&self, inner: S) -> RoleGuard<S> {
        RoleGuard { inner, require: self.clone() }
    }
}

/// The service that [`RequireRole`] makes.
#[derive(Clone, Debug)]
pub struct RoleGuard<S> {
    inner: S,
    require: RequireRole,
}

impl<S> Service<Request> for RoleGuard<S>
where
    S: Service<Request, Response = Response>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let rule = self.require.rule;
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        let admitted = self.require.auth.admit(rule, request.headers(), peer);
        let audit = (rule.role == Role::Admin).then(|| Audit::of(&request, peer));
        match admitted {
            Ok(caller) => {
                let who = caller.name.clone();
                request.extensions_mut().insert(caller);
                let answer = self.inner.call(request);
                match audit {
                    None => Either::Left(answer),
                    Some(audit) => Either::Right(Box::pin(async move {
                        let answer = answer.await;
                        if let Ok(answer) = &answer {
                            audit.write(&who, answer.status());
                        }
                        answer
                    })),
                }
            }
            Err(refusal) => {
                metrics::counter!("trough_http_refused_total", "status" => refusal.status.as_str().to_owned())
                    .increment(1);
                match audit {
                    Some(audit) => audit.write(&refusal.who, refusal.status),
                    None => {
                        let (method, path) = (request.method(), request.uri().path());
                        tracing::debug!(who = &*refusal.who, peer = ?peer, %method, path, status = refusal.status.as_u16(), "refused");
                    }
                }
                Either::Right(Box::pin(std::future::ready(Ok(refusal.answer()))))
            }
        }
    }
}

impl Refusal {
    fn answer(self) -> Response {
        let reason = self.status.canonical_reason().unwrap_or("Refused");
        let mut response = plain(self.status, format!("{} {reason}: {}\n", self.status.as_u16(), self.why));
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// What the log keeps of an admin's request: who, from where, what, with what outcome.
struct Audit {
    peer: Option<SocketAddr>,
    method: axum::http::Method,
    path: String,
}

impl Audit {
    fn of(request: &Request, peer: Option<SocketAddr>) -> Self {
        // A route layer runs inside the router, where `nest` may have cut the path; nothing here is nested.
        Self { peer, method: request.method().clone(), path: request.uri().path().to_owned() }
    }

    fn write(&self, who: &str, status: StatusCode) {
        let peer = self.peer.map(|peer| peer.to_string()).unwrap_or_default();
        tracing::info!(who, peer, method = %self.method, path = self.path, status = status.as_u16(), "admin action");
    }
}
