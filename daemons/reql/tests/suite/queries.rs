//! The client against servers that behave.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use trough_reql::{Error, proto::term_type as t, r};

use crate::support::{LONG, Peer, client, start};

/// The term type of a START query.
fn kind(query: &Value) -> u64 {
    query[1][0].as_u64().unwrap_or_default()
}

#[tokio::test]
async fn a_query_travels_with_the_default_database() {
    let (seen, mut queries) = mpsc::unbounded_channel();
    let address = start(move |mut peer| {
        let seen = seen.clone();
        async move {
            while let Some((token, query)) = peer.next().await {
                seen.send(query).expect("the test listens");
                peer.atom(token, json!({"a": 1})).await;
            }
        }
    })
    .await;
    let client = client(&[address]).with_database("d");
    assert_eq!(client.run(&r::table("t").get("k")).await.expect("an answer"), json!({"a": 1}));
    assert_eq!(queries.recv().await, Some(json!([1, [16, [[15, ["t"]], "k"]], {"db": [14, ["d"]]}])));
    client.with_optarg("array_limit", 5).run(&r::now()).await.expect("an answer");
    assert_eq!(queries.recv().await, Some(json!([1, [103, []], {"db": [14, ["d"]], "array_limit": 5}])));
}

#[tokio::test]
async fn a_slow_query_holds_up_no_other() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let address = start(move |mut peer| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut slow = Vec::new();
            while let Some((token, query)) = peer.next().await {
                match kind(&query) {
                    t::WAIT => slow.push(token),
                    _ => peer.atom(token, json!("quick")).await,
                }
                if slow.len() == 1 && kind(&query) == t::DB_LIST {
                    peer.atom(slow.remove(0), json!("slow")).await;
                }
            }
        }
    })
    .await;
    let client = client(&[address]);
    let slow = tokio::spawn({
        let client = client.clone();
        async move { client.run(&r::table("t").wait()).await }
    });
    for _ in 0..100 {
        assert_eq!(client.run(&r::now()).await.expect("an answer"), json!("quick"));
    }
    while !slow.is_finished() {
        client.run(&r::db_list()).await.expect("an answer");
    }
    assert_eq!(slow.await.expect("no panic").expect("an answer"), json!("slow"));
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

/// Answers START with the rows 0 and 1 and CONTINUE with the next two, up to 7, and reports each query's type.
async fn counting(mut peer: Peer, seen: mpsc::UnboundedSender<u64>) {
    let mut next = 0;
    while let Some((token, query)) = peer.next().await {
        let kind = query[0].as_u64().expect("a type");
        let _ = seen.send(kind);
        if kind == 1 {
            next = 0;
        }
        if kind == 3 {
            peer.answer(token, json!({"t": 2, "r": []})).await;
        } else {
            peer.answer(token, json!({"t": if next == 6 { 2 } else { 3 }, "r": [next, next + 1]})).await;
            next += 2;
        }
    }
}

#[tokio::test]
async fn batches_are_asked_for_one_by_one_and_a_dropped_cursor_stops() {
    let (seen, mut types) = mpsc::unbounded_channel();
    let address = start(move |peer| counting(peer, seen.clone())).await;
    let client = client(&[address]);

    let mut cursor = client.cursor::<u64>(&r::table("t")).await.expect("a cursor");
    assert_eq!(cursor.next().await.expect("a row").expect("a number"), 0);
    assert_eq!(cursor.next().await.expect("a row").expect("a number"), 1);
    assert_eq!(types.recv().await, Some(1));
    assert!(types.try_recv().is_err(), "nobody asked for more");
    assert_eq!(cursor.next().await.expect("a row").expect("a number"), 2);
    assert_eq!(types.recv().await, Some(2));
    drop(cursor);
    assert_eq!(types.recv().await, Some(3));
}

#[tokio::test]
async fn a_sequence_is_read_to_its_end_without_stop() {
    let (seen, mut types) = mpsc::unbounded_channel();
    // Only the one connection holds the channel's sender.
    let seen = Arc::new(std::sync::Mutex::new(Some(seen)));
    let serve = move |peer| {
        let seen = seen.lock().expect("no panic").take();
        async move { counting(peer, seen.expect("one connection")).await }
    };
    let address = start(serve).await;
    let client = client(&[address]);
    assert_eq!(client.run(&r::table("t")).await.expect("rows"), json!([0, 1, 2, 3, 4, 5, 6, 7]));
    let rows: Vec<_> = client.cursor::<Value>(&r::table("t")).await.expect("a cursor").collect().await;
    assert!(!rows.is_empty() && rows.iter().all(Result::is_ok));
    drop(client);
    // The server's task ends with the connection, and with it the channel.
    while let Some(kind) = types.recv().await {
        assert_ne!(kind, 3);
    }
}

#[tokio::test]
async fn single_values_make_cursors_too_and_a_bad_row_ends_nothing() {
    let address = start(|mut peer| async move {
        while let Some((token, query)) = peer.next().await {
            match kind(&query) {
                t::NOW => peer.atom(token, json!(5)).await,
                t::DB_LIST => peer.atom(token, json!([1, 2])).await,
                _ => peer.answer(token, json!({"t": 2, "r": [1, "x", 3]})).await,
            }
        }
    })
    .await;
    let client = client(&[address]);
    let all = async |query| {
        let rows: Vec<_> = client.cursor::<u64>(&query).await.expect("a cursor").collect().await;
        rows.into_iter().map(Result::ok).collect::<Vec<_>>()
    };
    assert_eq!(all(r::now()).await, [Some(5)]);
    assert_eq!(all(r::db_list()).await, [Some(1), Some(2)]);
    assert_eq!(all(r::table("t")).await, [Some(1), None, Some(3)]);
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_stopped() {
    let (seen, mut types) = mpsc::unbounded_channel();
    let address = start(move |mut peer| {
        let seen = seen.clone();
        async move {
            while let Some((token, query)) = peer.next().await {
                let _ = seen.send((token, query[0].as_u64().expect("a type")));
                if query[0] == 5 {
                    peer.answer(token, json!({"t": 5, "r": [{"name": "fake"}]})).await;
                }
            }
        }
    })
    .await;
    let client = client(&[address]);
    client.connect().await.expect("connected");
    let impatient = client.with_timeout(Duration::from_millis(50));
    let started = Instant::now();
    let outcome = impatient.run(&r::table("t").wait()).await;
    assert!(matches!(outcome, Err(Error::Timeout { .. })), "{outcome:?}");
    assert!(started.elapsed() < LONG / 2);
    let (token, _) = types.recv().await.expect("START");
    assert_eq!(types.recv().await, Some((token, 3)), "STOP of the same token");
    // The server answers the probe, so the connection stays.
    assert_eq!(types.recv().await.expect("a probe").1, 5);
    assert_eq!(client.server_info().await.expect("info"), json!({"name": "fake"}));

    let unopened = impatient.feed::<Value>(&r::table("t").changes()).await;
    assert!(matches!(unopened, Err(Error::Timeout { .. })), "a feed that never opens");
}

#[tokio::test]
async fn a_cursor_whose_next_batch_does_not_come_ends() {
    let (seen, mut types) = mpsc::unbounded_channel();
    let address = start(move |mut peer| {
        let seen = seen.clone();
        async move {
            while let Some((token, query)) = peer.next().await {
                let _ = seen.send(query[0].as_u64());
                if query[0] == 1 {
                    peer.answer(token, json!({"t": 3, "r": [1]})).await;
                }
            }
        }
    })
    .await;
    let client = client(&[address]);
    client.connect().await.expect("connected");
    let impatient = client.with_timeout(Duration::from_secs(1));
    let rows: Vec<_> = impatient.cursor::<u64>(&r::table("t")).await.expect("a cursor").collect().await;
    assert!(matches!(rows[..], [Ok(1), Err(Error::Timeout { .. })]), "{rows:?}");
    assert_eq!(
        [types.recv().await, types.recv().await, types.recv().await],
        [Some(Some(1)), Some(Some(2)), Some(Some(3))]
    );
}

#[tokio::test]
async fn a_feed_shares_the_connection_and_outlives_the_time_limit() {
    let release = Arc::new(Notify::new());
    let released = release.clone();
    let address = start(move |mut peer| {
        let released = released.clone();
        async move {
            let mut feed = None;
            loop {
                tokio::select! {
                    query = peer.next() => match query {
                        Some((token, query)) if query[0] == 2 => feed = Some(token),
                        Some((token, query)) if kind(&query) == t::CHANGES => {
                            peer.answer(token, json!({"t": 3, "r": [{"state": "ready"}], "n": [1, 5]})).await;
                        }
                        Some((token, _)) => peer.atom(token, json!(1)).await,
                        None => break,
                    },
                    () = released.notified() => {
                        let token = feed.expect("the feed asked for more");
                        peer.answer(token, json!({"t": 3, "r": [{"new_val": 1, "old_val": null}], "n": [1, 5]})).await;
                    }
                }
            }
        }
    })
    .await;
    let limit = Duration::from_secs(1);
    let client = client(&[address]);
    client.connect().await.expect("connected");
    let mut feed = client.with_timeout(limit).feed::<Value>(&r::table("t").changes()).await.expect("a feed");
    assert_eq!(feed.next().await.expect("a state").expect("a row"), json!({"state": "ready"}));
    let waiting = tokio::spawn(async move { (feed.next().await, feed) });
    let started = Instant::now();
    while started.elapsed() < limit * 3 / 2 {
        client.run(&r::now()).await.expect("other queries go on");
    }
    assert!(!waiting.is_finished());
    release.notify_one();
    let (change, _feed) = waiting.await.expect("no panic");
    assert_eq!(change.expect("a change").expect("a row"), json!({"new_val": 1, "old_val": null}));
}

#[tokio::test]
async fn many_queries_at_once_on_one_connection() {
    let address = start(|mut peer| async move {
        while let Some((token, query)) = peer.next().await {
            peer.atom(token, query[1].clone()).await;
        }
    })
    .await;
    let client = client(&[address]);
    let all = (0..5000).map(|number| {
        let client = client.clone();
        async move { client.run_as::<i64>(&r::expr(number)).await.expect("an answer") == number }
    });
    assert!(futures::future::join_all(all).await.into_iter().all(|same| same));
}
