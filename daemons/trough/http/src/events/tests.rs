use std::fs;

use super::*;

fn id(id: &str) -> SegmentId {
    SegmentId::new(id).expect("an id")
}

fn node() -> NodeId {
    NodeId::new("w").expect("an id")
}

fn fences(events: &Events, segment: Option<&SegmentId>) -> Vec<u64> {
    let fence = |event: Event| match event.what {
        What::LockTaken { fence } => fence,
        other => panic!("{other:?}"),
    };
    events.latest(segment, 1_000).into_iter().map(fence).collect()
}

#[test]
fn the_ring_keeps_the_newest() {
    let events = Events::in_memory(node(), 4);
    for fence in 0..7 {
        events.note(&id(if fence % 2 == 0 { "even" } else { "odd" }), What::LockTaken { fence });
    }
    assert_eq!(fences(&events, None), [6, 5, 4, 3]);
    assert_eq!(fences(&events, Some(&id("odd"))), [5, 3]);
    assert_eq!(events.latest(None, 1).len(), 1);
    let none = Events::in_memory(node(), 0);
    none.note(&id("x"), What::Dropped);
    assert!(none.latest(None, 9).is_empty());
}

#[test]
fn a_restart_keeps_them_and_the_log_stays_small() {
    let dir = tempfile::tempdir().expect("a directory");
    for restart in 0..5 {
        let events = Events::with_log(node(), 10, dir.path());
        let before = (restart * 7u64).saturating_sub(10)..restart * 7;
        assert_eq!(fences(&events, None), before.rev().collect::<Vec<_>>(), "restart {restart}");
        (restart * 7..restart * 7 + 7).for_each(|fence| events.note(&id("x"), What::LockTaken { fence }));
        events.flush();
        let lines = |entry: fs::DirEntry| fs::read_to_string(entry.path()).expect("text").lines().count();
        let all: usize = fs::read_dir(dir.path()).expect("there").map(|e| lines(e.expect("entry"))).sum();
        assert!(all <= 2 * 10 + 5, "{all} lines");
    }
}

#[test]
fn what_is_no_event_is_passed_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = r#"{"at_ms":1,"segment":"a","event":"lock_taken","fence":3}"#;
    let text = format!(
        "{good}\n{{\"at_ms\":2,\"segment\":\"a\",\"event\":\"of_the_future\"}}\nrubbish\n{good}\n{{\"at_ms\":3,\"seg"
    );
    fs::write(dir.path().join(".trough-events.ndjson"), text).expect("written");
    let events = Events::with_log(node(), 10, dir.path());
    assert_eq!(fences(&events, None), [3, 3]);
    events.note(&id("a"), What::LockTaken { fence: 4 });
    events.flush();
    assert_eq!(fences(&Events::with_log(node(), 10, dir.path()), None), [4, 3, 3]);
}

#[test]
fn every_kind_survives_its_text() {
    let reason = || "r".to_owned();
    let all = [
        What::Provisioned { bytes: u64::MAX, new: true },
        What::ProvisionRefused { reason: reason() },
        What::LockReleased { fence: 1 },
        What::LockLost { fence: 1 },
        What::Promoted { bytes: 1, mtime_ms: -1, sha256: "00".into() },
        What::PromotionFailed { reason: reason() },
        What::Copied { bytes: 1, mtime_ms: 2 },
        What::Freshened { bytes: 1, mtime_ms: 2 },
        What::CopyFailed { reason: reason() },
        What::Quarantined { reason: reason() },
        What::Dropped,
        What::Shredded,
        What::Assigned { to: node(), ring: "0".into(), why: "repair".into() },
        What::Unassigned { from: node() },
    ];
    for what in all {
        let event = Event { at_ms: 5, segment: id("é\"<s>"), what };
        let text = serde_json::to_string(&event).expect("json");
        assert_eq!(serde_json::from_str::<Event>(&text).expect("an event"), event, "{text}");
    }
}

#[test]
fn reasons_quote_no_statement() {
    let error = |code| SegmentError::new(code, "near \"secret\": syntax error");
    assert_eq!(reason(&error(ErrorCode::BadSql)), "SQLite refused it (bad_sql)");
    assert_eq!(reason(&SegmentError::new(ErrorCode::Io, "x".repeat(400))).len(), LONGEST_REASON);
}
