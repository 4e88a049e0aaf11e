//! What a peer can send to a ReQL port: handshake, frames, the queries in them; and what a server can answer to a client.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tokio::io::AsyncWriteExt as _;
use trough_reql::proto::{Query, Response, WireError, WireReader, encode_frame, handshake, scram::Credentials};

const MAX_FRAME: usize = 1 << 16;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

thread_local! {
    static RUNTIME: tokio::runtime::Runtime = runtime();
    static CREDENTIALS: Credentials = Credentials::for_password("fuzz").expect("random bytes");
}

fuzz_target!(|input: (u8, &[u8])| {
    let (mode, bytes) = input;
    RUNTIME.with(|runtime| runtime.block_on(run(mode, bytes)));
});

async fn run(mode: u8, bytes: &[u8]) {
    match mode % 3 {
        0 => {
            let credentials = CREDENTIALS.with(Clone::clone);
            let lookup = |user: &str| (user == "admin").then_some(credentials);
            let mut out = Vec::new();
            let _ = handshake::accept(&mut WireReader::new(bytes, MAX_FRAME), &mut out, "2.4.4", lookup).await;
        }
        1 => {
            let mut out = Vec::new();
            let _ = handshake::connect(&mut WireReader::new(bytes, MAX_FRAME), &mut out, "admin", "fuzz").await;
        }
        _ => frames(bytes).await,
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
        let _ = Query::parse(&body);
        if let Ok(response) = serde_json::from_slice::<Response>(&body) {
            serde_json::to_vec(&response).expect("a response can be written again");
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
