//! What every request goes through: its trace, its span for the logs, its counts, its line in the access log.
//!
//! Routes are told by their templates, methods by a fixed list; so the number of series does not depend on what clients send.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, HttpBody},
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri},
    response::Response,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use parking_lot::RwLock;
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};
use trough_core::trace::{TRACE_HEADER, TRACEPARENT, Trace};

use crate::{metrics::recorder, rate::Rate, trace};

/// What is asked so often, and says so little, that it is in no log.
const QUIET: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Put into an answer's extensions: why the request failed, for the log.
#[derive(Clone, Debug)]
pub struct Failed(pub String);

/// The layer of one listener.
#[derive(Clone)]
pub(crate) struct Observe(Arc<Listener>);

struct Listener {
    name: &'static str,
    access_log: bool,
    in_flight: Gauge,
    failures: Rate,
    /// One a route and method that was asked for: a few dozen at most.
    routes: RwLock<Vec<Arc<Route>>>,
}

/// Handles of one route and method, made once.
struct Route {
    path: Box<str>,
    method: &'static str,
    quiet: bool,
    /// By the status's first digit.
    answered: [Counter; 5],
    seconds: Histogram,
    bytes: Counter,
}

impl Observe {
    /// `setting` names the listener's port: READ_PORT is the listener `read`.
    pub(crate) fn new(setting: &'static str, access_log: bool) -> Self {
        recorder();
        let name = match setting {
            "READ_PORT" => "read",
            "WRITE_PORT" => "write",
            "SYNC_LOCAL_PORT" => "manage",
            "SYNC_SERVER_PORT" => "sync",
            "--http" => "health",
            other => other,
        };
        let in_flight = gauge!("trough_http_requests_in_flight", "listener" => name);
        let failures = Rate::new(20, Duration::from_secs(10));
        Self(Arc::new(Listener { name, access_log, in_flight, failures, routes: RwLock::default() }))
    }
}

impl Listener {
    fn route(&self, path: &str, method: &Method) -> Arc<Route> {
        let method = known(method);
        let same = |route: &&Arc<Route>| *route.path == *path && route.method == method;
        if let Some(route) = self.routes.read().iter().find(same) {
            return route.clone();
        }
        let mut routes = self.routes.write();
        if let Some(route) = routes.iter().find(same) {
            return route.clone();
        }
        let labels = [("listener", self.name.to_owned()), ("route", path.to_owned()), ("method", method.to_owned())];
        let answered = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|status| {
            let mut labels = labels.to_vec();
            labels.push(("status", status.to_owned()));
            counter!("trough_http_requests_total", &labels)
        });
        let route = Arc::new(Route {
            path: path.into(),
            method,
            quiet: QUIET.contains(&path),
            answered,
            seconds: histogram!("trough_http_request_duration_seconds", &labels),
            bytes: counter!("trough_http_response_bytes_total", &labels),
        });
        routes.push(route.clone());
        route
    }
}

fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}

/// The trace that the client sent, else a new one.
fn trace_of(headers: &HeaderMap) -> Trace {
    let sent = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()?.parse().ok());
    sent.unwrap_or_else(trace::new_trace)
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;
    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, listener: self.0.clone() }
    }
}

/// The service that [`Observe`] makes.
#[derive(Clone)]
pub(crate) struct Observed<S> {
    inner: S,
    listener: Arc<Listener>,
}

impl<S> Service<Request> for Observed<S>
where
    S: Service<Request, Response = Response> + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let begun = Instant::now();
        let listener = self.listener.clone();
        let path = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str);
        let route = listener.route(path, request.method());
        let trace = trace_of(request.headers());
        let uri = (listener.access_log && !route.quiet).then(|| request.uri().clone());
        let span = if route.quiet { Span::none() } else { span(&listener, &route, trace) };
        listener.in_flight.increment(1.0);
        let mut end = End { route, listener, span: span.clone(), uri, begun, status: gone(), bytes: 0 };
        let answered = trace::under(trace, self.inner.call(request)).instrument(span);
        Box::pin(async move {
            let mut response = answered.await?;
            end.status = response.status();
            if let Some(Failed(error)) = response.extensions_mut().remove::<Failed>()
                && let Some(held_back) = end.listener.failures.pass()
            {
                tracing::info!(parent: &end.span, status = end.status.as_u16(), error, held_back, "request failed");
            }
            // Hexadecimal digits can stand in a header.
            if let Ok(id) = HeaderValue::from_str(&trace.id().to_string()) {
                response.headers_mut().insert(TRACE_HEADER, id);
            }
            match response.body().size_hint().exact() {
                Some(bytes) => {
                    end.bytes = bytes;
                    drop(end);
                    Ok(response)
                }
                None => Ok(response.map(|inner| Body::new(Counted { inner, end }))),
            }
        })
    }
}

/// What a request has as its status whose client left before there was one.
fn gone() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

fn span(listener: &Listener, route: &Route, trace: Trace) -> Span {
    let span = tracing::info_span!(
        target: "trough::request",
        "request",
        trace = %trace.id(),
        listener = listener.name,
        method = route.method,
        route = &*route.path,
    );
    #[cfg(feature = "otlp")]
    crate::otlp::adopt(&span, trace);
    span
}

/// A request that is not over; when it is dropped, it is.
struct End {
    route: Arc<Route>,
    listener: Arc<Listener>,
    span: Span,
    /// For the access log.
    uri: Option<Uri>,
    begun: Instant,
    status: StatusCode,
    bytes: u64,
}

impl Drop for End {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        let class = usize::from(self.status.as_u16() / 100).clamp(1, 5);
        self.route.answered[class - 1].increment(1);
        self.route.seconds.record(took.as_secs_f64());
        self.route.bytes.increment(self.bytes);
        self.listener.in_flight.decrement(1.0);
        if let Some(uri) = &self.uri {
            tracing::info!(
                target: "trough::access",
                parent: &self.span,
                status = self.status.as_u16(),
                bytes = self.bytes,
                ms = took.as_secs_f64() * 1000.0,
                %uri,
                "request"
            );
        }
    }
}

/// An answer's body that counts what goes out.
struct Counted {
    inner: Body,
    end: End,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            this.end.bytes += data.len() as u64;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
