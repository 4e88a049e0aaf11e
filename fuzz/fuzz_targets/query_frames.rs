//! The query protocol as a client reads it (PostgreSQL's backends among them): frames out of a byte stream, values out of the frames of rows.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trough_core::wire::{Frame, FrameDecoder, Item, ItemReader};

fuzz_target!(|bytes: &[u8]| {
    let whole = decode(bytes, bytes.len().max(1));
    let cut = decode(bytes, 3);
    // Garbage may be noticed earlier or later; what was read before it is the same.
    let same = whole.0.len().min(cut.0.len());
    assert_eq!(whole.0[..same], cut.0[..same]);
    if whole.1 && cut.1 {
        assert_eq!(whole.0.len(), cut.0.len());
    }
    for frame in &whole.0 {
        let mut again = Vec::new();
        frame.encode(&mut again);
        // A code that is not known is read as another one.
        if !matches!(frame, Frame::SegmentError { .. } | Frame::Error(_)) {
            assert_eq!(decode(&again, again.len()).0, [frame.clone()]);
        }
        if let Frame::Rows { data, .. } = frame {
            values(data);
        }
    }
    values(bytes);
});

/// The frames, and whether all bytes were such.
fn decode(bytes: &[u8], step: usize) -> (Vec<Frame>, bool) {
    let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
    for chunk in bytes.chunks(step) {
        decoder.push(chunk);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, false),
            }
        }
    }
    (frames, true)
}

fn values(bytes: &[u8]) {
    let mut reader = ItemReader::new(bytes, 0);
    let mut last = 0;
    while let Some(item) = reader.next() {
        assert!(reader.at() > last && reader.at() <= bytes.len());
        last = reader.at();
        if let Item::Text(text) | Item::Blob(text) | Item::BadText(text) = item {
            assert!(text.len() < last);
        }
    }
}
