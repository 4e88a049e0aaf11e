//! An answer on its way: bytes from the pool's threads to one asynchronous reader.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{Stream, future::poll_fn};
use tokio::sync::mpsc;
use trough_core::SegmentError;

use crate::control::CancelOnDrop;

/// What a pool thread hands over.
#[derive(Debug)]
pub(crate) enum Chunk {
    /// More follows.
    More(Bytes),
    /// Nothing follows; the answer ended well.
    Last(Bytes),
    /// The answer failed after it began.
    Failed(SegmentError),
}

/// The bytes of an answer. Dropping it before its end interrupts the query.
///
/// A small answer is [whole](ByteStream::take_whole) at once, so that it can be sent with its length.
#[derive(Debug)]
pub struct ByteStream {
    first: Option<Chunk>,
    rest: Option<mpsc::Receiver<Chunk>>,
    _cancel: Option<CancelOnDrop>,
}

impl ByteStream {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { first: Some(Chunk::Last(bytes)), rest: None, _cancel: None }
    }

    pub(crate) fn new(first: Chunk, rest: mpsc::Receiver<Chunk>, cancel: CancelOnDrop) -> Self {
        Self { first: Some(first), rest: Some(rest), _cancel: Some(cancel) }
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
        let chunk = match self.first.take() {
            Some(chunk) => Some(chunk),
            None => match &mut self.rest {
                None => return Poll::Ready(None),
                Some(rest) => match rest.poll_recv(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(chunk) => chunk,
                },
            },
        };
        match chunk {
            Some(Chunk::More(bytes)) => Poll::Ready(Some(Ok(bytes))),
            Some(Chunk::Last(bytes)) => {
                self.rest = None;
                Poll::Ready(Some(Ok(bytes)))
            }
            Some(Chunk::Failed(error)) => {
                self.rest = None;
                Poll::Ready(Some(Err(error)))
            }
            None => {
                self.rest = None;
                Poll::Ready(Some(Err(crate::errors::pool_gone())))
            }
        }
    }
}
