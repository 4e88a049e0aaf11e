//! The client against servers that fail, and errors.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, future::join_all};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpListener, sync::mpsc};
use trough_reql::{Client, Error, ErrorClass, Options, r};

use crate::support::{LONG, Peer, client, options, start};

#[tokio::test]
async fn reads_are_tried_on_another_host_and_writes_are_not() {
    // Takes queries and hangs up on them.
    let cuts = Arc::new(AtomicUsize::new(0));
    let counted = cuts.clone();
    let cutting = start(move |mut peer| {
        let counted = counted.clone();
        async move {
            peer.next().await;
            counted.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let good = start(|mut peer| async move {
        while let Some((token, _)) = peer.next().await {
            peer.atom(token, json!({"inserted": 1})).await;
        }
    })
    .await;
    let (mut lost, mut tries) = (0, 0);
    // Which host comes first is chosen at random.
    while lost == 0 || cuts.load(Ordering::SeqCst) < 4 {
        tries += 1;
        assert!(tries < 200, "the first host is never tried first");
        client(&[cutting, good]).run(&r::now()).await.expect("another host answers");
        let writing = client(&[cutting, good]);
        match writing.write(&r::table("t").insert(json!({}))).await {
            Ok(summary) => assert_eq!(summary.inserted, 1),
            Err(Error::Closed { .. }) => {
                lost += 1;
                writing.write(&r::table("t").insert(json!({}))).await.expect("the next goes to the other host");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_host_that_is_down_is_passed_over() {
    let unused = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("an address");
    let good = start(|mut peer| async move {
        while let Some((token, _)) = peer.next().await {
            peer.atom(token, json!(1)).await;
        }
    })
    .await;
    for _ in 0..10 {
        assert_eq!(client(&[unused, good]).run(&r::now()).await.expect("an answer"), json!(1));
    }
    let error = client(&[unused]).run(&r::now()).await.expect_err("nobody there");
    assert!(matches!(&error, Error::Connect { reason } if reason.contains(&unused.port().to_string())), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_host_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let silent = listener.local_addr().expect("an address");
    let mute = Client::new(Options { connect_timeout: Duration::from_millis(50), ..options(&[silent]) });
    let error = mute.run(&r::now()).await.expect_err("silence");
    assert!(matches!(&error, Error::Connect { reason } if reason.contains("no answer within")), "{error}");
    drop(listener);
}

#[tokio::test]
async fn a_host_that_went_silent_is_left() {
    let silent = start(|mut peer| async move { while peer.next().await.is_some() {} }).await;
    let good = start(|mut peer| async move {
        while let Some((token, _)) = peer.next().await {
            peer.atom(token, json!(1)).await;
        }
    })
    .await;
    // Which host comes first is chosen at random.
    let hosts = [silent, good];
    join_all((0..8).map(|_| answered(&hosts))).await;
}

/// As a server whose table has no primary replica.
const UNAVAILABLE: &str = "Cannot perform write: primary replica for shard [\"\", +inf) not available";

#[tokio::test]
async fn what_was_certainly_not_done_is_tried_again() {
    let address = start(|mut peer| async move {
        let mut refusals = 3;
        while let Some((token, _)) = peer.next().await {
            match refusals {
                0 => peer.atom(token, json!({"deleted": 1})).await,
                _ => peer.answer(token, json!({"t": 18, "r": [UNAVAILABLE], "e": 4100000, "b": []})).await,
            }
            refusals -= 1;
        }
    })
    .await;
    assert_eq!(client(&[address]).write(&r::table("t").delete()).await.expect("a write").deleted, 1);
    assert!(
        client(&[address]).cursor::<serde_json::Value>(&r::table("t")).await.is_ok(),
        "nor is a cursor given up at its opening"
    );
}

#[tokio::test]
async fn a_host_that_is_cut_off_from_the_others_is_left() {
    let cut_off = start(|mut peer| async move {
        while let Some((token, _)) = peer.next().await {
            peer.answer(token, json!({"t": 18, "r": [UNAVAILABLE], "e": 4100000, "b": []})).await;
        }
    })
    .await;
    let good = start(|mut peer| async move {
        while let Some((token, _)) = peer.next().await {
            peer.atom(token, json!(1)).await;
        }
    })
    .await;
    // Which host comes first is chosen at random.
    let (hosts, query) = ([cut_off, good], r::table("t").count());
    let asked = join_all((0..6).map(|_| async { client(&hosts).run(&query).await })).await;
    assert!(asked.iter().all(|answer| matches!(answer, Ok(n) if *n == json!(1))), "{asked:?}");
}

#[tokio::test]
async fn a_host_that_stands_still_is_left_though_nobody_waits_for_it() {
    let stuck = start(|mut peer| async move {
        if let Some((token, _)) = peer.next().await {
            peer.atom(token, json!(1)).await;
        }
        while peer.next().await.is_some() {}
    })
    .await;
    let good = start(|mut peer| async move {
        while let Some((token, _)) = peer.next().await {
            peer.atom(token, json!(2)).await;
        }
    })
    .await;
    let hosts = [stuck, good];
    join_all((0..6).map(|_| async {
        let client = Client::new(Options { connect_timeout: Duration::from_millis(500), ..options(&hosts) });
        let deadline = Instant::now() + LONG;
        // The caller's own time limit, which the client does not learn of.
        let now = r::now();
        let ask = || tokio::time::timeout(Duration::from_millis(200), client.run(&now));
        while !matches!(ask().await, Ok(Ok(answer)) if answer == json!(2)) {
            assert!(Instant::now() < deadline, "the silent host is never left");
        }
    }))
    .await;
}

/// Asks until there is an answer; a query has less time than it takes to give a host up.
async fn answered(hosts: &[SocketAddr]) {
    let (query_timeout, connect_timeout) = (Duration::from_millis(100), Duration::from_millis(700));
    let client = Client::new(Options { query_timeout, connect_timeout, ..options(hosts) });
    let deadline = Instant::now() + LONG;
    while let Err(error) = client.run(&r::now()).await {
        assert!(error.is_retryable(), "{error}");
        assert!(Instant::now() < deadline, "the silent host is never left: {error}");
    }
}

#[tokio::test]
async fn a_host_that_never_greets_is_left() {
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let silent = mute.local_addr().expect("an address");
    let good = start(|mut peer| async move {
        while let Some((token, _)) = peer.next().await {
            peer.atom(token, json!(1)).await;
        }
    })
    .await;
    let hosts = [silent, good];
    join_all((0..8).map(|_| answered(&hosts))).await;
    drop(mute);
}

#[tokio::test]
async fn a_restarted_server_is_found_again() {
    let address = start(|mut peer| async move {
        // One query per connection, then it hangs up.
        if let Some((token, _)) = peer.next().await {
            peer.atom(token, json!(1)).await;
        }
    })
    .await;
    let client = client(&[address]);
    for _ in 0..20 {
        match client.write_unchecked(&r::table("t").delete()).await {
            // The fake answers 1 to everything; or it was just hanging up, which is the scheduler's choice.
            Err(Error::Decode(_) | Error::Closed { .. }) => {}
            other => panic!("{other:?}"),
        }
        client.run(&r::now()).await.expect("reads are tried again");
    }
}

#[tokio::test]
async fn wrong_logins_are_told_apart() {
    let address = start(|_| async {}).await;
    let wrong = Client::new(Options { password: "wrong".to_owned(), ..options(&[address]) });
    let error = wrong.run(&r::now()).await.expect_err("a wrong password");
    assert!(matches!(&error, Error::Auth { reason, .. } if reason.contains("Wrong password (code 12)")), "{error}");
    assert!(!error.is_retryable());
    let nobody = Client::new(Options { user: "nobody".to_owned(), ..options(&[address]) });
    let error = nobody.run(&r::now()).await.expect_err("an unknown user");
    assert!(matches!(&error, Error::Auth { reason, .. } if reason.contains("Unknown user (code 17)")), "{error}");
}

#[tokio::test]
async fn something_else_on_the_port_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"ERROR: this is something else\n\0").await;
        }
    });
    let error = client(&[address]).run(&r::now()).await.expect_err("not RethinkDB");
    assert!(matches!(&error, Error::Connect { reason } if reason.contains("this is something else")), "{error}");
}

#[tokio::test]
async fn errors_have_their_class() {
    let address = start(|mut peer| async move {
        let mut answers = [
            json!({"t": 16, "r": ["broken"], "b": []}),
            json!({"t": 17, "r": ["malformed"], "b": []}),
            json!({"t": 18, "r": ["Cannot perform write: lost contact with primary replica"], "e": 4200000, "b": []}),
            json!({"t": 18, "r": ["no"], "e": 3100000, "b": []}),
            json!({"t": 1, "r": [{"errors": 2, "first_error": "fenced: 7", "inserted": 1}]}),
            json!({"t": 99, "r": []}),
            json!("not an answer"),
        ]
        .into_iter();
        while let (Some((token, _)), Some(answer)) = (peer.next().await, answers.next()) {
            peer.answer(token, answer).await;
        }
    })
    .await;
    let client = client(&[address]);
    let mut errors = Vec::new();
    for _ in 0..7 {
        errors.push(client.write(&r::table("t").delete()).await.expect_err("an error"));
    }
    assert!(matches!(&errors[0], Error::Client(text) if text == "broken"));
    assert!(matches!(&errors[1], Error::Compile(text) if text == "malformed"));
    assert!(errors[2].class() == Some(ErrorClass::OpIndeterminate) && errors[2].is_retryable());
    assert!(errors[3].class() == Some(ErrorClass::NonExistence) && !errors[3].is_retryable());
    assert!(matches!(&errors[4], Error::Write { summary } if summary.errors == 2 && summary.inserted == 1));
    assert!(errors[4].to_string().contains("fenced: 7"));
    assert!(matches!(&errors[5], Error::Decode(_)) && matches!(&errors[6], Error::Decode(_)), "{errors:?}");
}

#[tokio::test]
async fn noreply_queries_go_out_and_are_waited_for() {
    let (seen, mut queries) = mpsc::unbounded_channel();
    let address = start(move |mut peer| {
        let seen = seen.clone();
        async move {
            while let Some((token, query)) = peer.next().await {
                if query[0] == 4 {
                    peer.answer(token, json!({"t": 4, "r": []})).await;
                }
                let _ = seen.send(query);
            }
        }
    })
    .await;
    let client = client(&[address]);
    client.noreply_wait().await.expect("nothing to wait for");
    client.run_noreply(&r::table("t").delete()).await.expect("sent");
    client.noreply_wait().await.expect("carried out");
    let optargs = json!({"db": [14, ["test"]], "noreply": true});
    assert_eq!(queries.recv().await, Some(json!([1, [54, [[15, ["t"]]]], optargs])));
    assert_eq!(queries.recv().await, Some(json!([4])));
}

#[tokio::test]
async fn a_handshake_may_come_in_fragments() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("an option");
            // Two bytes at a time between the server and the client.
            let (near, far) = tokio::io::duplex(2);
            let (mut from_client, mut to_client) = stream.into_split();
            let (mut from_server, mut to_server) = tokio::io::split(near);
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            let (reader, writer) = tokio::io::split(far);
            tokio::spawn(async move {
                let mut peer = Peer::shake((Box::new(reader), Box::new(writer))).await.expect("a handshake");
                while let Some((token, _)) = peer.next().await {
                    peer.atom(token, json!("whole")).await;
                }
            });
        }
    });
    assert_eq!(client(&[address]).run(&r::now()).await.expect("an answer"), json!("whole"));
}

#[tokio::test]
async fn a_server_that_floods_is_hung_up_on() {
    let address = start(|mut peer| async move {
        if let Some((token, _)) = peer.next().await {
            for _ in 0..1000 {
                peer.answer(token, json!({"t": 3, "r": [1]})).await;
            }
            // Stays until the client hangs up.
            while peer.next().await.is_some() {}
        }
    })
    .await;
    let mut cursor = client(&[address]).feed::<u64>(&r::table("t").changes()).await.expect("a feed");
    let mut rows = 0;
    while let Some(row) = cursor.next().await {
        if row.is_err() {
            break;
        }
        rows += 1;
        assert!(rows < 1000, "the flood was buffered");
        tokio::task::yield_now().await;
    }
}
