//! Settings files and what the environment may say: read or refused with a sentence, never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trough_config::Settings;

fuzz_target!(|bytes: &[u8]| {
    let Some(text) = trough_fuzz::input::<&str>(bytes) else { return };
    // The part before a form feed is the file, what follows are lines KEY=value of the environment.
    let (yaml, environment) = text.split_once('\u{c}').unwrap_or((text, ""));
    let environment = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        // A file's name would let the input read this machine.
        .filter(|(key, _)| !key.ends_with("_FILE"))
        .map(|(key, value)| (format!("TROUGH_{key}"), value.to_owned()));
    match Settings::from_parts(yaml, environment) {
        Ok(settings) => {
            assert!(settings.base_url(settings.read_port).ends_with('/'));
            // Whoever reads the URL finds in it what was written.
            if let Ok(url) = trough_reql::Options::from_url(&settings.rethinkdb_url()) {
                assert_eq!(url.password.as_str(), settings.rethinkdb_password);
            }
            let segment = trough_core::SegmentId::new("300124").expect("an id");
            let _ = settings.minimum_assignments.for_segment(&segment);
            let _ = settings.cold_store_segment.for_segment(&segment);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
