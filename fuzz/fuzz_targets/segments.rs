//! Segment ids and patterns: an id that is let in stays in its directory and survives a URL; a pattern's literal prefix is one.

#![no_main]

use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use trough_client::discovery::SegmentPattern;
use trough_core::SegmentId;

fuzz_target!(|bytes: &[u8]| {
    let Some((text, pattern)) = trough_fuzz::input::<(&str, &str)>(bytes) else { return };
    let Ok(id) = SegmentId::new(text) else { return };
    assert_eq!(id.as_str(), text);
    let path = id.store_path();
    assert!(Path::new(&path).components().all(|c| matches!(c, Component::Normal(_))), "{path:?}");
    assert!(Path::new(&path).components().count() <= 2 && path.ends_with(".sqlite"), "{path:?}");
    assert!(path.ends_with(&id.file_name()));
    let encoded = id.url_encoded();
    assert!(encoded.bytes().all(|b| b.is_ascii_graphic()), "{encoded:?}");
    assert_eq!(percent_encoding::percent_decode_str(&encoded).decode_utf8().expect("UTF-8"), text);
    assert_eq!(serde_json::from_str::<SegmentId>(&serde_json::to_string(&id).expect("JSON")).expect("an id"), id);

    let prefix = SegmentPattern::Prefix(pattern.to_owned());
    assert_eq!(prefix.matches(text), text.starts_with(pattern));
    if pattern.len() <= 200
        && let Ok(regex) = SegmentPattern::regex(pattern)
        && regex.matches(text)
    {
        let literal = regex.literal_prefix();
        assert!(text.starts_with(&literal), "{pattern:?} matches {text:?}, which does not begin with {literal:?}");
    }
});
