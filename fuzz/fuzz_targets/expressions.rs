//! Settings that are CEL expressions of `segment_id`: compiled and evaluated, or refused with a sentence.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use trough_config::SegmentExpr;
use trough_core::SegmentId;

/// Settings are short; the parser's time grows faster than an expression's length.
const MOST_BYTES: usize = 300;

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some(source) = trough_fuzz::input::<&str>(bytes) else { return Corpus::Reject };
    if source.len() > MOST_BYTES {
        return Corpus::Reject;
    }
    let ids = ["300124", "archive-1", "é:x"].map(|id| SegmentId::new(id).expect("an id"));
    match SegmentExpr::<u32>::compile(source) {
        Ok(expression) => {
            for id in &ids {
                let _ = expression.for_segment(id);
            }
        }
        Err(error) => assert!(!error.is_empty()),
    }
    if let Ok(expression) = SegmentExpr::<bool>::compile(source) {
        for id in &ids {
            assert_eq!(expression.for_segment(id), expression.for_segment(id));
        }
    }
    Corpus::Keep
});
