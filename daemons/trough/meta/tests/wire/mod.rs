//! A wire client that knows nothing of terms: for what a driver would hide.
#![allow(dead_code, unreachable_pub)]

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use trough_reql::proto::{DEFAULT_PORT, Frame, MAX_QUERY_BYTES, WireReader, handshake, write_frame};

/// How long an answer may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
pub struct Wire {
    reader: WireReader<ReadHalf<TcpStream>>,
    writer: WriteHalf<TcpStream>,
    token: i64,
}

impl Wire {
    /// Connects as `admin`.
    pub async fn connect(address: impl tokio::net::ToSocketAddrs) -> Wire {
        Wire::connect_as(address, "").await.expect("connect")
    }

    /// Connects as `admin` with a password.
    pub async fn connect_as(
        address: impl tokio::net::ToSocketAddrs,
        password: &str,
    ) -> Result<Wire, handshake::HandshakeError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = WireReader::new(reader, MAX_QUERY_BYTES);
        handshake::connect(&mut reader, &mut writer, "admin", password).await?;
        Ok(Wire { reader, writer, token: 0 })
    }

    /// Sends a request under a new token, which it gives.
    pub async fn send(&mut self, query: &Value) -> i64 {
        self.token += 1;
        let token = self.token;
        self.send_on(token, query).await;
        token
    }

    /// Sends a request under a token.
    pub async fn send_on(&mut self, token: i64, query: &Value) {
        let body = serde_json::to_vec(query).expect("JSON");
        self.send_raw(token, &body).await;
    }

    /// Sends bytes as a request.
    pub async fn send_raw(&mut self, token: i64, body: &[u8]) {
        write_frame(&mut self.writer, token, body).await.expect("send");
    }

    /// The next response, whichever token it is for; `None` if the server closed the connection.
    pub async fn receive(&mut self) -> Option<(i64, Value)> {
        let frame = tokio::time::timeout(PATIENCE, self.reader.read_frame()).await.expect("an answer in time");
        let Ok(Some(Frame { token, body })) = frame else { return None };
        Some((token, serde_json::from_slice(&body).expect("JSON")))
    }

    /// The next response as text: it may nest deeper than a JSON parser likes.
    pub async fn receive_text(&mut self) -> String {
        let frame = tokio::time::timeout(PATIENCE, self.reader.read_frame()).await.expect("an answer in time");
        let frame = frame.expect("a connection").expect("an answer");
        String::from_utf8(frame.body.to_vec()).expect("UTF-8")
    }

    /// Runs a START query and gives every answer to it, with CONTINUE after each partial one.
    pub async fn run(&mut self, query: &Value) -> Vec<Value> {
        let token = self.send(query).await;
        let mut answers = Vec::new();
        loop {
            let (got, answer) = self.receive().await.expect("an answer");
            assert_eq!(got, token);
            let partial = answer["t"] == 3;
            answers.push(answer);
            if !partial {
                return answers;
            }
            self.send_on(token, &json!([2])).await;
        }
    }

    /// Runs a term and gives its value: an atom, or all elements of a sequence. An error fails the test.
    pub async fn value(&mut self, term: Value) -> Value {
        let answers = self.run(&json!([1, term, {}])).await;
        for answer in &answers {
            assert!(answer["t"].as_u64().is_some_and(|t| t < 16), "{term}: {answer}");
        }
        if answers[0]["t"] == 1 {
            return answers[0]["r"][0].clone();
        }
        answers.iter().flat_map(|answer| answer["r"].as_array().expect("values").clone()).collect()
    }

    /// Runs a term that must fail, and gives the error.
    pub async fn error(&mut self, term: Value) -> Value {
        let answer = self.run(&json!([1, term, {}])).await.pop().expect("an answer");
        assert!(answer["t"].as_u64().is_some_and(|t| t >= 16), "{term}: {answer}");
        answer
    }
}

/// The address of the real RethinkDB that RETHINKDB_URL names (`rethinkdb://HOST[:PORT]`).
pub fn real_server() -> Option<String> {
    let url = std::env::var("RETHINKDB_URL").ok()?;
    let host = url.trim_start_matches("rethinkdb://").split('/').next().unwrap_or_default().to_owned();
    Some(if host.contains(':') { host } else { format!("{host}:{DEFAULT_PORT}") })
}

/// Lines of a file of recorded cases.
pub fn recorded(file: &str) -> Vec<Value> {
    let path = format!("{}/../../../tests/data/reql/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines().map(|line| serde_json::from_str(line).expect("a case is JSON")).collect()
}

/// Whether a value agrees with a recorded one: numbers by value, volatile parts and backtraces not at all.
pub fn agrees(recorded: &Value, got: &Value) -> bool {
    match (recorded, got) {
        (Value::Object(wanted), _) if wanted.get("$volatile") == Some(&Value::Bool(true)) => true,
        (Value::Object(wanted), Value::Object(found)) => {
            let skip = |key: &&String| key.as_str() != "b" && key.as_str() != "p";
            wanted.keys().filter(skip).eq(found.keys().filter(skip))
                && wanted.iter().filter(|(key, _)| skip(key)).all(|(key, value)| agrees(value, &found[key]))
        }
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(wanted, found)| agrees(wanted, found))
        }
        (Value::Number(wanted), Value::Number(found)) => wanted.as_f64() == found.as_f64(),
        (wanted, found) => wanted == found,
    }
}
