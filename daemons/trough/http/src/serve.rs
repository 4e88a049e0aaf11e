//! One connection: HTTP over it, within the listener's limits.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderValue, Request, StatusCode, Version, header},
    response::Response,
};
use futures::future::BoxFuture;
use hyper::{body::Incoming, service::Service};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::OwnedSemaphorePermit,
};
use tokio_util::sync::CancellationToken;
use tower::Service as _;
use trough_config::HttpLimits;

use crate::{
    gate::Gate,
    pace::{Held, InFlight, Paced, Watch, Watched},
    respond::plain,
};

/// What all connections of a listener share.
pub(crate) struct Door {
    pub(crate) router: Router,
    pub(crate) limits: HttpLimits,
    pub(crate) gate: Gate,
    builder: Builder<TokioExecutor>,
}

impl Door {
    pub(crate) fn new(router: Router, limits: HttpLimits) -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
        // The timeouts are [`Watch`]'s: hyper's does not tell a slow request from a connection at rest.
        builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(limits.max_header_bytes);
        if limits.max_headers != 100 {
            // 100 is hyper's own limit, and costs no allocation.
            builder.http1().max_headers(limits.max_headers);
        }
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_streams)
            .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX));
        Self { router, gate: Gate::new(&limits), limits, builder }
    }
}

/// Serves a connection until it ends, is too slow, or `stop` and then `kill` end it.
pub(crate) async fn connection<I>(
    door: Arc<Door>,
    io: I,
    peer: SocketAddr,
    stop: CancellationToken,
    kill: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let watch = Watch::new();
    let io = TokioIo::new(Watched { io, watch: watch.clone() });
    let entrance = Entrance { door: door.clone(), watch: watch.clone(), peer };
    let mut connection = pin!(door.builder.serve_connection(io, entrance));
    let mut stopping = false;
    let mut checks = tokio::time::interval(Watch::interval(&door.limits));
    checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::trace!(%peer, error = %error, "connection failed");
                }
                return;
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = kill.cancelled() => return,
            _ = checks.tick() => if let Some(why) = watch.verdict(&door.limits) {
                metrics::counter!("trough_http_slow_total").increment(1);
                tracing::debug!(%peer, why, "connection closed");
                return;
            }
        }
    }
}

/// Where each request of a connection comes in.
struct Entrance {
    door: Arc<Door>,
    watch: Arc<Watch>,
    peer: SocketAddr,
}

/// Kept until an answer has been sent.
type Kept = (InFlight, Option<OwnedSemaphorePermit>);

impl Service<Request<Incoming>> for Entrance {
    type Response = Response<Held<Body, Kept>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = self.watch.request(request.version() == Version::HTTP_2);
        let (door, peer) = (self.door.clone(), self.peer);
        Box::pin(async move {
            let (response, permit) = answer(&door, peer, request).await;
            Ok(response.map(|body| Held { body, _kept: (in_flight, permit) }))
        })
    }
}

async fn answer(door: &Door, peer: SocketAddr, request: Request<Incoming>) -> (Response, Option<OwnedSemaphorePermit>) {
    if let Some(refusal) = encoded(&request) {
        return (refusal, None);
    }
    // Whoever looks after a daemon must hear from it also when it is busy.
    let permit = if matches!(request.uri().path(), "/livez" | "/readyz") {
        None
    } else {
        match door.gate.enter().await {
            Some(permit) => Some(permit),
            None => return (busy(), None),
        }
    };
    let mut request = request.map(|body| Body::new(Paced::new(body, door.limits.body_timeout)));
    request.extensions_mut().insert(ConnectInfo(peer));
    let Ok(response) = door.router.clone().call(request).await;
    (response, permit)
}

fn busy() -> Response {
    metrics::counter!("trough_http_refused_total", "status" => "503").increment(1);
    let text = "503 Service Unavailable: too many requests at the same time (MAX_REQUESTS); try again\n";
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// A body is taken as it is or not at all: what is not unpacked cannot burst.
fn encoded(request: &Request<Incoming>) -> Option<Response> {
    let encoding = request.headers().get(header::CONTENT_ENCODING)?;
    if encoding.as_bytes().eq_ignore_ascii_case(b"identity") {
        return None;
    }
    let text = "415 Unsupported Media Type: send the body without Content-Encoding\n";
    Some(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
}
