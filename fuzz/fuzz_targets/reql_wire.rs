//! What a peer can send to a ReQL port: handshake, frames, the queries in them; and what a server can answer to a client.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tokio::io::AsyncWriteExt as _;
use trough_reql::proto::{
    Query, Response, WireError, WireReader, encode_frame, handshake, response_type,
    scram::{Credentials, ScramClient, ScramServer},
};

const MAX_FRAME: usize = 1 << 16;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

thread_local! {
    static RUNTIME: tokio::runtime::Runtime = runtime();
    static CREDENTIALS: Credentials = Credentials::for_password("fuzz").expect("random bytes");
}

fuzz_target!(|bytes: &[u8]| {
    let Some((mode, bytes)) = trough_fuzz::input::<(u8, &[u8])>(bytes) else { return };
    RUNTIME.with(|runtime| runtime.block_on(run(mode, bytes)));
});

async fn run(mode: u8, bytes: &[u8]) {
    match mode % 4 {
        0 => {
            let credentials = CREDENTIALS.with(Clone::clone);
            let lookup = |user: &str| (user == "admin").then_some(credentials);
            let mut out = Vec::new();
            let accepted = handshake::accept(&mut WireReader::new(bytes, MAX_FRAME), &mut out, "2.4.4", lookup).await;
            // Nobody can know the nonce.
            assert!(accepted.is_err(), "{accepted:?} was let in");
            assert!(out.is_empty() || out.ends_with(b"\0"));
        }
        1 => {
            let mut out = Vec::new();
            let connected = handshake::connect(&mut WireReader::new(bytes, MAX_FRAME), &mut out, "admin", "fuzz").await;
            assert!(connected.is_err(), "{connected:?} is no server that knows the password");
        }
        2 => frames(bytes).await,
        _ => scram(&String::from_utf8_lossy(bytes)),
    }
}

/// Both sides of SCRAM with a peer that knows the nonce but no password. `\x01` stands for the nonce.
fn scram(text: &str) {
    let (first, last) = text.split_once('\0').unwrap_or((text, ""));
    let credentials = CREDENTIALS.with(Clone::clone);
    if let Ok(server) = ScramServer::begin(first, |_| Some(credentials)) {
        let nonce = server.challenge().split(['=', ',']).nth(1).expect("a nonce").to_owned();
        let proved = server.finish(&last.replace('\x01', &nonce));
        assert!(proved.is_err(), "{proved:?} without the password");
    }
    let mut client = ScramClient::new("admin", "fuzz").expect("random bytes");
    let nonce = client.first().rsplit_once('=').expect("a nonce").1.to_owned();
    // Millions of iterations are allowed, and take their time.
    let many = first.split(",i=").skip(1).any(|n| n.bytes().take_while(u8::is_ascii_digit).count() > 3);
    if !many && client.answer(&first.replace('\x01', &nonce)).is_ok() {
        assert!(client.verify(last).is_err());
    }
}

/// However the bytes are cut, the same frames come out of them, and those written again are the same bytes.
async fn frames(bytes: &[u8]) {
    let whole = read_all(WireReader::new(bytes, MAX_FRAME)).await;
    let (mut near, far) = tokio::io::duplex(7);
    let writing = async {
        // The reader may have seen enough.
        let _ = near.write_all(bytes).await;
        drop(near);
    };
    let (cut, ()) = tokio::join!(read_all(WireReader::new(far, MAX_FRAME)), writing);
    assert_eq!(whole, cut);
    for (token, body) in whole {
        let mut again = bytes::BytesMut::new();
        encode_frame(&mut again, token, &body);
        assert_eq!(read_all(WireReader::new(&again[..], MAX_FRAME)).await, [(token, body.clone())]);
        if let Ok(Query::Start { term, optargs }) = Query::parse(&body) {
            let text = serde_json::json!([1, term, optargs]).to_string();
            assert_eq!(Query::parse(text.as_bytes()), Ok(Query::Start { term, optargs }));
        }
        answer(&body);
    }
}

/// What a client reads of an answer is what stands in it.
fn answer(body: &[u8]) {
    let read = trough_reql::fuzzing::answer(body);
    let Ok(response) = serde_json::from_slice::<Response>(body) else { return };
    let text = serde_json::to_vec(&response).expect("a response can be written again");
    assert_eq!(serde_json::from_slice::<Response>(&text).ok().as_ref(), Some(&response));
    if let Ok((rows, more)) = read {
        assert_eq!(more, response.t == response_type::SUCCESS_PARTIAL);
        for (row, value) in rows.iter().zip(&response.r) {
            assert_eq!(row.as_ref(), Ok(value));
        }
    }
}

async fn read_all<R: tokio::io::AsyncRead + Unpin>(mut reader: WireReader<R>) -> Vec<(i64, Vec<u8>)> {
    let mut frames = Vec::new();
    loop {
        match reader.read_frame().await {
            Ok(Some(frame)) => frames.push((frame.token, frame.body.to_vec())),
            Err(WireError::TooLarge { .. }) => {}
            Ok(None) | Err(_) => return frames,
        }
    }
}
