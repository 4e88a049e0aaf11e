//! The query and write protocols, as both ends read them: frames out of a byte stream, values out of the frames of rows, requests and results.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use trough_core::wire::{Frame, FrameDecoder, Item, ItemReader, QueryRequest, WriteRequest, WriteResponse};

fuzz_target!(|bytes: &[u8]| {
    let Some(bytes) = trough_fuzz::input::<&[u8]>(bytes) else { return };
    frames(bytes);
    values(bytes);
    document::<QueryRequest>(bytes);
    document::<WriteRequest>(bytes);
    document::<WriteResponse>(bytes);
});

fn frames(bytes: &[u8]) {
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
        assert_eq!(decode(&again, again.len()).0, std::slice::from_ref(frame));
        if let Frame::Rows { data, .. } = frame {
            values(data);
        }
    }
}

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

/// A request or result, in JSON or MessagePack: what is understood is understood again when it is written, in either.
fn document<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let json = |document: &T| serde_json::to_string(document).expect("it can be written");
    for read in [serde_json::from_slice::<T>(bytes).ok(), rmp_serde::from_slice::<T>(bytes).ok()].into_iter().flatten()
    {
        let text = json(&read);
        assert_eq!(json(&serde_json::from_str(&text).expect("it was written so")), text);
        let packed = rmp_serde::to_vec_named(&read).expect("it can be written");
        assert_eq!(json(&rmp_serde::from_slice(&packed).expect("it was written so")), text);
    }
}
