//! An answer on its way: bytes from the pool's threads to one asynchronous reader, bounded by bytes.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{Stream, future::poll_fn};
use parking_lot::{Condvar, Mutex};
use tokio::time::Sleep;
use trough_core::SegmentError;

use crate::{control::Control, errors, pool::PoolRef, render::Format};

/// Bytes that may wait for the reader before the threads that make more are held back.
const WAITING_BYTES: usize = 1 << 20;
/// How often a thread that is held back looks whether it should give up.
const GIVE_UP_CHECK: Duration = Duration::from_millis(200);
/// A silent answer tells its progress so often.
const SILENCE: Duration = Duration::from_secs(1);

/// What a pool thread hands over.
#[derive(Debug)]
pub(crate) enum Chunk {
    /// More follows.
    More(Bytes),
    /// Nothing follows; the answer ended well.
    Last(Bytes),
    /// The answer failed.
    Failed(SegmentError),
}

#[derive(Default)]
struct State {
    queue: VecDeque<Chunk>,
    bytes: usize,
    reader_gone: bool,
    senders_gone: bool,
    waker: Option<Waker>,
}

struct Channel {
    state: Mutex<State>,
    room: Condvar,
}

/// The threads' end. The answer is broken off if all are dropped before [`Chunk::Last`].
pub(crate) struct Sender {
    channel: Arc<Channel>,
    control: Arc<Control>,
    pool: PoolRef,
}

/// The work must end: its reader is gone or its time is over.
pub(crate) struct Stop;

impl Sender {
    /// Hands a chunk over, waiting while the reader has enough to do.
    pub(crate) fn send(&self, chunk: Chunk) -> Result<(), Stop> {
        let mut state = self.channel.state.lock();
        if state.bytes >= WAITING_BYTES && matches!(chunk, Chunk::More(_)) && !state.reader_gone {
            drop(state);
            self.wait_for_room()?;
            state = self.channel.state.lock();
        }
        // Rows that are long may take all time between two questions of SQLite's machine.
        if state.reader_gone || matches!(chunk, Chunk::More(_)) && self.control.must_stop() {
            return Err(Stop);
        }
        if let Chunk::More(bytes) | Chunk::Last(bytes) = &chunk {
            state.bytes += bytes.len();
        }
        state.queue.push_back(chunk);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Why the work must stop, if it must.
    pub(crate) fn stop_reason(&self) -> Option<SegmentError> {
        self.control.stop_reason()
    }

    fn wait_for_room(&self) -> Result<(), Stop> {
        self.pool.while_blocked(|| {
            let mut state = self.channel.state.lock();
            let mut since = Instant::now();
            let began = since;
            while state.bytes >= WAITING_BYTES && !state.reader_gone {
                self.channel.room.wait_for(&mut state, GIVE_UP_CHECK);
                let now = Instant::now();
                self.control.waited(now - since);
                since = now;
                if self.control.must_stop() || self.control.stalled(now - began) {
                    return Err(Stop);
                }
            }
            Ok(())
        })
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.channel.state.lock();
            state.senders_gone = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

struct Receiver {
    channel: Arc<Channel>,
    control: Arc<Control>,
}

impl Receiver {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Chunk>> {
        let mut state = self.channel.state.lock();
        match state.queue.pop_front() {
            Some(chunk) => {
                if let Chunk::More(bytes) | Chunk::Last(bytes) = &chunk {
                    state.bytes -= bytes.len();
                }
                drop(state);
                self.channel.room.notify_one();
                Poll::Ready(Some(chunk))
            }
            None if state.senders_gone => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.control.cancel();
        let mut state = self.channel.state.lock();
        state.reader_gone = true;
        state.queue.clear();
        drop(state);
        self.channel.room.notify_all();
    }
}

/// The bytes of an answer. Dropping it before its end interrupts the query.
///
/// A small answer is [whole](ByteStream::take_whole) at once, so that it can be sent with its length.
pub struct ByteStream {
    first: Option<Chunk>,
    rest: Option<Receiver>,
    /// Tells the progress of a silent answer.
    progress: Option<(Format, Pin<Box<Sleep>>)>,
}

impl std::fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByteStream").field("first", &self.first).field("ended", &self.rest.is_none()).finish()
    }
}

impl ByteStream {
    /// An answer that is complete.
    pub(crate) fn whole(bytes: Vec<u8>) -> Self {
        Self { first: Some(Chunk::Last(bytes.into())), rest: None, progress: None }
    }

    /// An answer that threads will make for `control`'s request.
    pub(crate) fn channel(control: &Arc<Control>, pool: PoolRef) -> (Sender, Self) {
        let channel = Arc::new(Channel { state: Mutex::default(), room: Condvar::new() });
        let receiver = Receiver { channel: channel.clone(), control: control.clone() };
        let sender = Sender { channel, control: control.clone(), pool };
        (sender, Self { first: None, rest: Some(receiver), progress: None })
    }

    /// Waits for the first bytes.
    ///
    /// # Errors
    /// The failure that came instead of them.
    pub(crate) async fn begun(mut self) -> Result<Self, SegmentError> {
        match poll_fn(|cx| self.poll_chunk(cx)).await {
            Some(Chunk::Failed(error)) => Err(error),
            None => Err(errors::pool_gone()),
            chunk => {
                self.first = chunk;
                Ok(self)
            }
        }
    }

    /// Tells the progress of the answer when it is silent for a second.
    pub(crate) fn with_progress(mut self, format: Format) -> Self {
        self.progress = Some((format, Box::pin(tokio::time::sleep(SILENCE))));
        self
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Chunk>> {
        if let Some(chunk) = self.first.take() {
            return Poll::Ready(Some(chunk));
        }
        let Some(rest) = &self.rest else { return Poll::Ready(None) };
        if let Poll::Ready(chunk) = rest.poll(cx) {
            if let Some((_, sleep)) = &mut self.progress {
                sleep.as_mut().reset(tokio::time::Instant::now() + SILENCE);
            }
            return Poll::Ready(Some(chunk.unwrap_or_else(|| Chunk::Failed(errors::pool_gone()))));
        }
        if let Some((format, sleep)) = &mut self.progress
            && sleep.as_mut().poll(cx).is_ready()
        {
            sleep.as_mut().reset(tokio::time::Instant::now() + SILENCE);
            let told = crate::render::progress(*format, rest.control.done());
            if !told.is_empty() {
                return Poll::Ready(Some(Chunk::More(told.into())));
            }
            // Registers the new time.
            let _ = sleep.as_mut().poll(cx);
        }
        Poll::Pending
    }

    /// The whole answer, if it is already here and nothing was read yet; the stream is then at its end.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        match self.first.take() {
            Some(Chunk::Last(bytes)) => {
                self.rest = None;
                Some(bytes)
            }
            other => {
                self.first = other;
                None
            }
        }
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// The failure that broke the answer off.
    pub async fn collect(mut self) -> Result<Vec<u8>, SegmentError> {
        let mut all = Vec::new();
        while let Some(bytes) = poll_fn(|cx| Pin::new(&mut self).poll_next(cx)).await {
            all.extend_from_slice(&bytes?);
        }
        Ok(all)
    }
}

impl Stream for ByteStream {
    type Item = Result<Bytes, SegmentError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Poll::Ready(chunk) = self.poll_chunk(cx) else { return Poll::Pending };
        let item = match chunk {
            Some(Chunk::More(bytes)) => return Poll::Ready(Some(Ok(bytes))),
            Some(Chunk::Last(bytes)) => Some(Ok(bytes)),
            Some(Chunk::Failed(error)) => Some(Err(error)),
            None => None,
        };
        self.rest = None;
        Poll::Ready(item)
    }
}
