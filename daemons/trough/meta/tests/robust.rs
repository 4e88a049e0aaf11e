//! Bad input: nothing a client sends may crash the server or disturb another client.

mod wire;

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use trough_meta::MetaServer;
use trough_reql::proto::term_type;
use wire::{PATIENCE, Wire};

async fn server() -> (tempfile::TempDir, MetaServer) {
    let dir = tempfile::tempdir().expect("a directory");
    let server = MetaServer::start_ephemeral(dir.path()).await.expect("a server");
    let mut wire = Wire::connect(server.local_addr()).await;
    wire.value(json!([60, [[14, ["test"]], "t"]])).await;
    wire.value(json!([75, [[15, ["t"]], "n"]])).await;
    wire.value(json!([56, [[15, ["t"]], [2, [{"id": 1, "n": 1}, {"id": 2, "n": 2}, {"id": "a", "n": "x"}]]]])).await;
    (dir, server)
}

/// Any term: a known or unknown number with a few arguments of any kind.
fn any_term() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i32..12).prop_map(Value::from),
        Just(json!(1.5)),
        Just(json!(1e300)),
        prop_oneof![
            Just("id"),
            Just("n"),
            Just("x"),
            Just("array"),
            Just("string"),
            Just("a["),
            Just(""),
            Just("\u{0}é")
        ]
        .prop_map(Value::from),
        Just(json!([15, ["t"]])),
        Just(json!([16, [[15, ["t"]], 1]])),
        Just(json!([13, []])),
        Just(json!([10, [1]])),
        Just(json!([103, []])),
        Just(json!([180, []])),
        Just(json!({"$reql_type$": "TIME", "epoch_time": 1, "timezone": "Z"})),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let numbers: Vec<u64> = (0..200).filter(|number| term_type::name(*number).is_some()).collect();
        let opts = prop_oneof![
            Just("index"), Just("default"), Just("conflict"), Just("return_changes"), Just("multi"), Just("squash"),
            Just("include_initial"), Just("left_bound"), Just("non_atomic"), Just("interleave"), Just("durability"),
        ];
        prop_oneof![
            6 => (proptest::sample::select(numbers), proptest::collection::vec(inner.clone(), 0..4)).prop_map(|(op, args)| json!([op, args])),
            2 => (proptest::sample::select((0..200_u64).collect::<Vec<_>>()), proptest::collection::vec(inner.clone(), 0..3), opts, inner.clone())
                .prop_map(|(op, args, name, value)| json!([op, args, {name: value}])),
            2 => inner.clone().prop_map(|body| json!([69, [[2, [1]], body]])),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| json!([69, [[2, [1, 2]], [65, [a, b, [10, [2]]]]]])),
            1 => proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| json!([2, items])),
            1 => proptest::collection::btree_map("[a-c]|id|n", inner.clone(), 0..3).prop_map(|fields| json!(fields)),
            1 => proptest::collection::vec(inner, 0..4).prop_map(Value::from),
        ]
    })
}

#[tokio::test]
async fn any_term_gets_an_answer() {
    let (_dir, server) = server().await;
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(4000);
    let mut runner = TestRunner::new(Config::default());
    let strategy = any_term();
    let mut wire = Wire::connect(server.local_addr()).await;
    let (mut answered, mut failed) = (0, 0);
    for _ in 0..cases {
        let term = strategy.new_tree(&mut runner).expect("a term").current();
        // The tables this test stands on stay.
        let text = term.to_string();
        if ["[58,", "[61,", "[57,", "[60,"].iter().any(|op| text.contains(op)) {
            continue;
        }
        let token = wire.send(&json!([1, term, {"array_limit": 1000}])).await;
        let (got, answer) = wire.receive().await.unwrap_or_else(|| panic!("the connection ended at {term}"));
        assert_eq!(got, token);
        let kind = answer["t"].as_u64().expect("a type");
        assert!((1..=3).contains(&kind) || (16..=18).contains(&kind), "{term}: {answer}");
        assert!(answer["e"] != 1_000_000, "an internal error: {term}: {answer}");
        if kind == 3 {
            wire.send_on(token, &json!([3])).await;
            wire.receive().await.expect("an end");
        }
        if kind < 16 { answered += 1 } else { failed += 1 }
    }
    assert!(answered > cases / 20 && failed > cases / 20, "{answered} answered, {failed} failed");
    assert_eq!(wire.value(json!([24, [1, 1]])).await, 2);
    server.shutdown().await;
}

#[tokio::test]
async fn broken_frames_end_their_own_connection_only() {
    let (_dir, server) = server().await;
    let mut bystander = Wire::connect(server.local_addr()).await;
    let bodies: &[&[u8]] = &[
        b"",
        b"{",
        b"[",
        b"[]",
        b"[1",
        b"[1]",
        b"null",
        b"[9]",
        b"[-1]",
        b"[1.5]",
        b"\xff\xfe",
        b"[1,\xff]",
        b"[1,[1,2,3,4]]",
        b"[1,[\"x\"]]",
        b"[1,[15,{},{}]]",
        b"[1,1,[]]",
        b"[1,1e999]",
        b"[1,[10,[\"a\"]]]",
        b"[1,[69,[1,2]]]",
        b"[1,[69,[[2,[\"a\"]],1]]]",
        b"[1,[3,[1]]]",
        b"[1,{\"a\":1,\"a\":2}]",
        b"[99999999999999999999999]",
        b"[1,\"\\ud800\"]",
    ];
    for body in bodies {
        let mut wire = Wire::connect(server.local_addr()).await;
        wire.send_raw(1, body).await;
        let answer = wire.receive().await;
        let kind = answer.as_ref().and_then(|answer| answer.1["t"].as_u64());
        assert!(kind.is_none_or(|kind| (16..=18).contains(&kind)), "{}: {answer:?}", String::from_utf8_lossy(body));
        assert_eq!(bystander.value(json!([24, [1, 1]])).await, 2);
    }
    server.shutdown().await;
}

#[tokio::test]
async fn noise_is_no_handshake() {
    let (_dir, server) = server().await;
    let mut hello = BytesMut::new();
    hello.put_u32_le(0x34c2_bdc3);
    let openings: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 100],
        vec![0xff; 70_000],
        [&hello[..], b"not json\0"].concat(),
        [&hello[..], b"{}\0"].concat(),
        [
            &hello[..],
            br#"{"protocol_version":0,"authentication_method":"SCRAM-SHA-256","authentication":"n,,n=admin"}"#,
            b"\0",
        ]
        .concat(),
        [&hello[..], br#"{"protocol_version":7,"authentication_method":"PLAIN","authentication":""}"#, b"\0"].concat(),
        [&hello[..], &vec![b'a'; 100_000][..]].concat(),
    ];
    for opening in openings {
        let mut stream = TcpStream::connect(server.local_addr()).await.expect("connect");
        // The server may have hung up before all of it is sent.
        let _ = stream.write_all(&opening).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "the server does not wait for ever");
    }
    assert_eq!(Wire::connect(server.local_addr()).await.value(json!([24, [1, 1]])).await, 2);
    server.shutdown().await;
}

#[tokio::test]
async fn optional_arguments_of_a_query_do_not_hold_for_themselves() {
    let (_dir, server) = server().await;
    let mut wire = Wire::connect(server.local_addr()).await;
    let table = json!([15, ["t"]]);
    // The database of a table of that database: what would never end is a table where a database is wanted.
    let answer = wire.run(&json!([1, [43, [table]], {"db": table}])).await.remove(0);
    assert_eq!(
        (&answer["t"], &answer["r"][0]),
        (&json!(18), &json!("Expected type DATABASE but found TABLE:\ntable(\"t\")"))
    );
    // A write whose durability is told by a write whose durability …
    let insert = json!([56, [table, {"id": "new"}]]);
    let answer = wire.run(&json!([1, insert, {"durability": insert}])).await.remove(0);
    assert_eq!(answer["t"], 18, "{answer}");
    let durability = json!([65, [[22, [[43, [table]], 3]], "hard", "soft"]]);
    let answer =
        wire.run(&json!([1, [56, [table, {"id": "newer"}]], {"durability": durability, "db": [14, ["test"]]}])).await;
    assert_eq!(answer[0]["t"], 1, "{answer:?}");
}

#[tokio::test]
async fn depth_and_length_have_limits() {
    let (_dir, server) = server().await;
    let mut wire = Wire::connect(server.local_addr()).await;
    // Deep terms and values: refused, or run, but never the end of the process.
    for depth in [100, 300, 480, 600, 5000, 200_000] {
        for (open, close) in [("[2,[", "]]"), ("{\"a\":", "}"), ("[23,[", "]]"), ("[64,[[69,[[2,[1]],", "]],1]]")] {
            let body = format!("[1,{}1{}]", open.repeat(depth), close.repeat(depth));
            wire.send_raw(1, body.as_bytes()).await;
            let answer = wire.receive_text().await;
            assert!(answer.starts_with("{\"t\":1"), "{depth} {open}: {answer}");
            assert!(depth > 480 || open != "[2,[" || answer.starts_with("{\"t\":1,"), "{depth} {open}: {answer}");
        }
    }
    // A value that gets deeper with every step.
    let deeper = json!([187, [[173, [10_000]], [2, []], [69, [[2, [1, 2]], [2, [[10, [1]]]]]]]]);
    assert!(wire.error(deeper).await["r"][0].as_str().is_some_and(|said| said.contains("Nesting depth")));
    let grow = json!([53, [[16, [[15, ["t"]], 1]], [69, [[2, [1]], {"n": [10, [1]]}]]]]);
    for _ in 0..520 {
        wire.value(grow.clone()).await;
    }
    assert_eq!(wire.value(grow).await["errors"], 1);
    // An array of more than the limit, and a query stopped in the middle.
    let wide: Vec<u32> = (0..100_001).collect();
    assert_eq!(wire.error(json!([2, wide])).await["e"], 2_000_000);
    let token = wire.send(&json!([1, [43, [[39, [[173, [1_000_000_000_000_u64]], false]]]], {}])).await;
    wire.send_on(token, &json!([3])).await;
    assert_eq!(wire.receive().await.expect("an end"), (token, json!({"t": 2, "n": [], "r": []})));
    assert_eq!(wire.receive().await.expect("the stop"), (token, json!({"t": 2, "n": [], "r": []})));
    assert_eq!(wire.value(json!([24, [1, 1]])).await, 2);
    server.shutdown().await;
}

#[tokio::test]
async fn many_clients_and_many_queries_at_once() {
    let (_dir, server) = server().await;
    let address = server.local_addr();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..40 {
        clients.spawn(async move {
            let mut wire = Wire::connect(address).await;
            let tokens: Vec<i64> = {
                let mut tokens = Vec::new();
                for i in 0..100 {
                    let doc = json!({"id": format!("{client}-{i}"), "n": i});
                    tokens.push(wire.send(&json!([1, [56, [[15, ["t"]], doc]], {}])).await);
                }
                tokens
            };
            let mut answered = Vec::new();
            for _ in &tokens {
                let (token, answer) = wire.receive().await.expect("an answer");
                assert_eq!(answer["r"][0]["inserted"], 1, "{answer}");
                answered.push(token);
            }
            answered.sort_unstable();
            assert_eq!(answered, tokens);
        });
    }
    clients.join_all().await;
    assert_eq!(Wire::connect(address).await.value(json!([43, [[15, ["t"]]]])).await, 4003);
    server.shutdown().await;
}
