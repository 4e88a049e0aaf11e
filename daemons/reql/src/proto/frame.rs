//! Frames (i64 LE token, u32 LE length, JSON) and NUL-terminated texts, read through one buffer, so that
//! whatever a peer sends ahead of its turn is kept for the next read.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of a frame before its JSON.
const HEADER_BYTES: usize = 12;

/// A query or a response as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Chosen by the client; a response carries its query's.
    pub token: i64,
    /// The JSON text.
    pub body: Bytes,
}

/// Why a peer could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The connection failed, or ended in the middle of something.
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    /// A frame is longer than the reader's limit. The reader skips its body, so reading can go on.
    #[error("a frame of {bytes} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// The frame's token, to answer by.
        token: i64,
        /// Its length.
        bytes: usize,
        /// The limit it exceeds.
        limit: usize,
    },
    /// A NUL-terminated text is longer than allowed.
    #[error("a handshake message exceeds {limit} bytes")]
    TextTooLong {
        /// The limit it exceeds.
        limit: usize,
    },
}

/// Reads frames and texts off a connection. Every method may be cancelled without losing bytes.
#[derive(Debug)]
pub struct WireReader<R> {
    inner: R,
    buffer: BytesMut,
    skip: usize,
    max_frame: usize,
}

impl<R: AsyncRead + Unpin> WireReader<R> {
    /// A reader that accepts frames whose JSON is shorter than `max_frame` bytes.
    pub fn new(inner: R, max_frame: usize) -> Self {
        WireReader { inner, buffer: BytesMut::with_capacity(16 * 1024), skip: 0, max_frame }
    }

    /// Reads more into the buffer; false at the end of the stream.
    async fn fill(&mut self) -> io::Result<bool> {
        // A body's length is the peer's claim: memory grows with what really arrives.
        if self.buffer.capacity() - self.buffer.len() < 4096 {
            let more = self.buffer.len().clamp(16 * 1024, 4 * 1024 * 1024);
            self.buffer.reserve(more);
        }
        Ok(self.inner.read_buf(&mut self.buffer).await? > 0)
    }

    async fn need(&mut self, bytes: usize) -> io::Result<()> {
        while self.buffer.len() < bytes {
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Reads a u32 LE: the protocol's version that opens a handshake.
    pub async fn read_u32(&mut self) -> Result<u32, WireError> {
        self.need(4).await?;
        Ok(self.buffer.get_u32_le())
    }

    /// Reads a text up to its NUL, which is dropped. At most `limit` bytes.
    pub async fn read_text(&mut self, limit: usize) -> Result<Bytes, WireError> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == 0) {
                let mut text = self.buffer.split_to(searched + at + 1);
                text.truncate(searched + at);
                return Ok(text.freeze());
            }
            searched = self.buffer.len();
            if searched > limit {
                return Err(WireError::TextTooLong { limit });
            }
            if !self.fill().await? {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// Reads the next frame; `None` when the peer closed between frames.
    pub async fn read_frame(&mut self) -> Result<Option<Frame>, WireError> {
        while self.skip > 0 {
            let present = self.skip.min(self.buffer.len());
            self.buffer.advance(present);
            self.skip -= present;
            if self.skip > 0 && !self.fill().await? {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        if self.buffer.is_empty() && !self.fill().await? {
            return Ok(None);
        }
        self.need(HEADER_BYTES).await?;
        let mut header = &self.buffer[..HEADER_BYTES];
        let token = header.get_i64_le();
        let bytes = header.get_u32_le() as usize;
        if bytes >= self.max_frame {
            self.buffer.advance(HEADER_BYTES);
            self.skip = bytes;
            return Err(WireError::TooLarge { token, bytes, limit: self.max_frame });
        }
        self.need(HEADER_BYTES + bytes).await?;
        self.buffer.advance(HEADER_BYTES);
        Ok(Some(Frame { token, body: self.buffer.split_to(bytes).freeze() }))
    }
}

/// Appends a frame to a buffer. The body must be shorter than 4 GiB, which every caller's limit ensures.
pub fn encode_frame(buffer: &mut BytesMut, token: i64, body: &[u8]) {
    buffer.reserve(HEADER_BYTES + body.len());
    buffer.put_i64_le(token);
    buffer.put_u32_le(u32::try_from(body.len()).expect("a frame's body is far below 4 GiB"));
    buffer.put_slice(body);
}

/// Writes one frame and flushes.
pub async fn write_frame<W: AsyncWrite + Unpin>(writer: &mut W, token: i64, body: &[u8]) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    encode_frame(&mut buffer, token, body);
    writer.write_all(&buffer).await?;
    writer.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_survive_any_fragmentation_and_follow_texts() {
        let mut wire = BytesMut::new();
        wire.put_u32_le(7);
        wire.put_slice(b"hello\0");
        encode_frame(&mut wire, -3, b"[1,2]");
        encode_frame(&mut wire, i64::MAX, b"");
        for piece in [1, 2, 3, 5, 1000] {
            let (mut near, far) = tokio::io::duplex(piece);
            let bytes = wire.clone();
            let writer = tokio::spawn(async move { near.write_all(&bytes).await });
            let mut reader = WireReader::new(far, 100);
            assert_eq!(reader.read_u32().await.expect("a number"), 7);
            assert_eq!(&reader.read_text(10).await.expect("a text")[..], b"hello");
            assert_eq!(reader.read_frame().await.expect("a frame"), Some(Frame { token: -3, body: "[1,2]".into() }));
            assert_eq!(reader.read_frame().await.expect("a frame"), Some(Frame { token: i64::MAX, body: "".into() }));
            assert_eq!(reader.read_frame().await.expect("the end"), None);
            writer.await.expect("no panic").expect("written");
        }
    }

    #[tokio::test]
    async fn an_oversized_frame_is_skipped() {
        let mut wire = BytesMut::new();
        encode_frame(&mut wire, 1, &[b'x'; 50]);
        encode_frame(&mut wire, 2, b"ok");
        let mut reader = WireReader::new(&wire[..], 50);
        assert!(matches!(reader.read_frame().await, Err(WireError::TooLarge { token: 1, bytes: 50, limit: 50 })));
        assert_eq!(reader.read_frame().await.expect("a frame"), Some(Frame { token: 2, body: "ok".into() }));
    }

    #[tokio::test]
    async fn a_cut_frame_and_an_endless_text_are_errors() {
        let mut wire = BytesMut::new();
        encode_frame(&mut wire, 1, b"abcdef");
        wire.truncate(15);
        assert!(matches!(WireReader::new(&wire[..], 50).read_frame().await, Err(WireError::Io(_))));
        assert!(matches!(
            WireReader::new(&[b'a'; 100][..], 50).read_text(20).await,
            Err(WireError::TextTooLong { limit: 20 })
        ));
    }
}
