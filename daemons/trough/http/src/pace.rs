//! Clients that are too slow: what a connection waits for, and for how long.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};
use trough_config::HttpLimits;

/// What a body must bring in a second, once it has paused for long.
const LEAST_RATE: f64 = 1000.0;

/// What one connection is doing. Times are milliseconds since it was opened, 0 for never.
#[derive(Debug)]
pub(crate) struct Watch {
    opened: Instant,
    /// Requests whose answers are not complete.
    requests: AtomicU32,
    /// Whether there ever was one.
    asked: AtomicBool,
    http2: AtomicBool,
    idle_since: AtomicU64,
    /// When the first byte came after the last request.
    begun: AtomicU64,
    /// Since when the client takes nothing.
    stalled: AtomicU64,
}

impl Watch {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            requests: AtomicU32::new(0),
            asked: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            idle_since: AtomicU64::new(1),
            begun: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        (self.opened.elapsed().as_millis() as u64).max(1)
    }

    /// A request has come; it lasts until what this gives is dropped.
    pub(crate) fn request(self: &Arc<Self>, http2: bool) -> InFlight {
        self.requests.fetch_add(1, Relaxed);
        self.asked.store(true, Relaxed);
        if http2 {
            self.http2.store(true, Relaxed);
        }
        self.begun.store(0, Relaxed);
        InFlight(self.clone())
    }

    /// Why the connection is to be closed, if it is.
    pub(crate) fn verdict(&self, limits: &HttpLimits) -> Option<&'static str> {
        let now = self.now();
        let longer = |since: u64, limit: Duration| since > 0 && now.saturating_sub(since) > limit.as_millis() as u64;
        if limits.send_timeout.is_some_and(|limit| longer(self.stalled.load(Relaxed), limit)) {
            return Some("the client takes nothing of the answer (SEND_TIMEOUT)");
        }
        if self.requests.load(Relaxed) > 0 {
            return None;
        }
        if !self.asked.load(Relaxed) && longer(1, limits.header_timeout) {
            return Some("no request came (HEADER_TIMEOUT)");
        }
        // What comes on an HTTP/2 connection without a request are pings and the like.
        if !self.http2.load(Relaxed) && longer(self.begun.load(Relaxed), limits.header_timeout) {
            return Some("a request's headers did not end (HEADER_TIMEOUT)");
        }
        longer(self.idle_since.load(Relaxed), limits.idle_timeout).then_some("no request came (IDLE_TIMEOUT)")
    }

    /// How often to ask for the verdict.
    pub(crate) fn interval(limits: &HttpLimits) -> Duration {
        let least = limits.header_timeout.min(limits.idle_timeout).min(limits.send_timeout.unwrap_or(Duration::MAX));
        (least / 4).clamp(Duration::from_millis(20), Duration::from_secs(15))
    }
}

/// A request that is not answered completely.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Watch>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let watch = &self.0;
        watch.idle_since.store(watch.now(), Relaxed);
        watch.begun.store(0, Relaxed);
        watch.requests.fetch_sub(1, Relaxed);
    }
}

/// A connection whose reads and writes are watched.
pub(crate) struct Watched<I> {
    pub(crate) io: I,
    pub(crate) watch: Arc<Watch>,
}

impl<I> Watched<I> {
    fn wrote<T>(&self, result: Poll<T>) -> Poll<T> {
        let stalled = &self.watch.stalled;
        match result {
            Poll::Pending if stalled.load(Relaxed) == 0 => stalled.store(self.watch.now(), Relaxed),
            Poll::Ready(_) if stalled.load(Relaxed) != 0 => stalled.store(0, Relaxed),
            _ => {}
        }
        result
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let watch = &this.watch;
        if buf.filled().len() > before && watch.requests.load(Relaxed) == 0 && watch.begun.load(Relaxed) == 0 {
            watch.begun.store(watch.now(), Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.wrote(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        this.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// A request's body came too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the body came too slowly (BODY_TIMEOUT)")]
pub struct BodyTimeout;

/// A request's body that must not pause for long.
pub(crate) struct Paced<B> {
    body: B,
    pause: Duration,
    bytes: u64,
    /// How long was waited for it, without the present pause.
    waited: Duration,
    /// The present pause: since when, and when it ends.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<B> Paced<B> {
    pub(crate) fn new(body: B, pause: Duration) -> Self {
        Self { body, pause, bytes: 0, waited: Duration::ZERO, waiting: None }
    }
}

impl<B> Body for Paced<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                if let Some((since, _)) = this.waiting.take() {
                    this.waited += since.elapsed();
                }
                if let Some(Ok(frame)) = &frame
                    && let Some(data) = frame.data_ref()
                {
                    this.bytes += data.len() as u64;
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                let (pause, bytes, waited) = (this.pause, this.bytes, this.waited);
                let (_, sleep) = this.waiting.get_or_insert_with(|| {
                    let allowed = 2 * pause + Duration::from_secs_f64(bytes as f64 / LEAST_RATE);
                    (Instant::now(), Box::pin(tokio::time::sleep(pause.min(allowed.saturating_sub(waited)))))
                });
                ready!(sleep.as_mut().poll(cx));
                Poll::Ready(Some(Err(BodyTimeout.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body, with what is to be kept until it has been sent.
pub(crate) struct Held<B, T> {
    pub(crate) body: B,
    pub(crate) _kept: T,
}

impl<B: Body + Unpin, T: Unpin> Body for Held<B, T> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
