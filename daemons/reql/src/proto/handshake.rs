//! The handshake that opens a connection: [`connect`] on a client, [`accept`] on a server. Messages may arrive in any
//! fragments, and a peer may send its next message before it was asked for.

use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::frame::{WireError, WireReader};
use super::scram::{Credentials, ScramClient, ScramError, ScramServer};

/// The number that opens a handshake of protocol version 1.0.
pub const VERSION_1_0: u32 = 0x34c2_bdc3;

/// The one authentication method.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";

/// A handshake message may not be longer than this.
pub const MAX_MESSAGE_BYTES: usize = 8192;

/// The client's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// 0.
    pub protocol_version: i64,
    /// [`SCRAM_SHA_256`].
    pub authentication_method: String,
    /// SCRAM's client-first-message.
    pub authentication: String,
}

/// The server's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// True.
    pub success: bool,
    /// Least `protocol_version` the server accepts.
    pub min_protocol_version: i64,
    /// Greatest `protocol_version` the server accepts.
    pub max_protocol_version: i64,
    /// Such as `2.4.4`.
    pub server_version: String,
}

/// Every further message: SCRAM's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authentication {
    /// True from a server, absent from a client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
    /// SCRAM's message.
    pub authentication: String,
}

/// What a server says when it refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// False.
    pub success: bool,
    /// A sentence.
    pub error: String,
    /// 10 to 20 for authentication.
    pub error_code: u64,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The connection failed or the peer sent too much.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The peer does not speak this protocol.
    #[error("not a RethinkDB handshake: {0}")]
    Protocol(String),
    /// The server refused: its sentence and its code, 10 to 20 for authentication.
    #[error("{message} (code {code})")]
    Refused {
        /// The server's sentence.
        message: String,
        /// The server's code.
        code: u64,
    },
    /// Authentication failed on this side.
    #[error(transparent)]
    Scram(#[from] ScramError),
}

impl HandshakeError {
    /// Whether user or password are at fault, so that another attempt fails the same way.
    pub fn is_authentication(&self) -> bool {
        match self {
            HandshakeError::Refused { code, .. } => (10..=20).contains(code),
            HandshakeError::Scram(_) => true,
            HandshakeError::Wire(_) | HandshakeError::Protocol(_) => false,
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        HandshakeError::Wire(WireError::Io(error))
    }
}

/// The client's side. Sends version and first message at once, without waiting for the server's versions.
pub async fn connect<R, W>(
    reader: &mut WireReader<R>,
    writer: &mut W,
    user: &str,
    password: &str,
) -> Result<Versions, HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut scram = ScramClient::new(user, password)?;
    let hello =
        Hello { protocol_version: 0, authentication_method: SCRAM_SHA_256.to_owned(), authentication: scram.first() };
    let mut opening = VERSION_1_0.to_le_bytes().to_vec();
    opening.extend(message(&hello));
    let send = async {
        writer.write_all(&opening).await?;
        writer.flush().await?;
        Ok(())
    };
    // The server may answer before it has read all: neither side waits for the other to make room.
    let ((), versions) = tokio::try_join!(send, read_answer::<R, Versions>(reader))?;
    if !(versions.min_protocol_version..=versions.max_protocol_version).contains(&0) {
        return Err(HandshakeError::Protocol(format!(
            "the server wants protocol versions {} to {}",
            versions.min_protocol_version, versions.max_protocol_version
        )));
    }
    let challenge: Authentication = read_answer(reader).await?;
    // Thousands of rounds of SHA-256 do not belong on a thread that serves connections.
    let (answer, scram) = tokio::task::spawn_blocking(move || (scram.answer(&challenge.authentication), scram))
        .await
        .map_err(|error| HandshakeError::Protocol(error.to_string()))?;
    writer.write_all(&message(&Authentication { success: None, authentication: answer? })).await?;
    writer.flush().await?;
    let last: Authentication = read_answer(reader).await?;
    scram.verify(&last.authentication)?;
    Ok(versions)
}

/// The server's side: gives the name of the authenticated user. `lookup` gives a user's credentials. A failure has
/// been told to the client when this returns; the caller closes the connection. It sets no time limit of its own.
pub async fn accept<R, W>(
    reader: &mut WireReader<R>,
    writer: &mut W,
    server_version: &str,
    lookup: impl FnOnce(&str) -> Option<Credentials>,
) -> Result<String, HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    if reader.read_u32().await? != VERSION_1_0 {
        let text = "Received an unsupported protocol version. This port is for RethinkDB queries. \
                    Does your client driver version not match the server?";
        writer.write_all(format!("ERROR: {text}\n\0").as_bytes()).await?;
        writer.flush().await?;
        return Err(HandshakeError::Protocol(text.to_owned()));
    }
    let outcome = exchange(reader, writer, server_version, lookup).await;
    let refusal = match &outcome {
        Err(HandshakeError::Refused { message, code }) => Some((message.clone(), *code)),
        Err(HandshakeError::Scram(error)) => Some((error.to_string(), error.code())),
        Err(HandshakeError::Wire(error @ WireError::TextTooLong { .. })) => Some((error.to_string(), 1)),
        Ok(_) | Err(HandshakeError::Wire(_) | HandshakeError::Protocol(_)) => None,
    };
    if let Some((error, error_code)) = refusal {
        writer.write_all(&message(&Refusal { success: false, error, error_code })).await?;
        writer.flush().await?;
    }
    outcome
}

async fn exchange<R, W>(
    reader: &mut WireReader<R>,
    writer: &mut W,
    server_version: &str,
    lookup: impl FnOnce(&str) -> Option<Credentials>,
) -> Result<String, HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let versions = Versions {
        success: true,
        min_protocol_version: 0,
        max_protocol_version: 0,
        server_version: server_version.to_owned(),
    };
    writer.write_all(&message(&versions)).await?;
    writer.flush().await?;

    let refused = |code: u64, text: &str| HandshakeError::Refused { message: text.to_owned(), code };
    let hello = reader.read_text(MAX_MESSAGE_BYTES).await?;
    let hello: Hello =
        serde_json::from_slice(&hello).map_err(|error| refused(2, &format!("Invalid handshake JSON: {error}")))?;
    if hello.protocol_version != 0 {
        return Err(refused(3, "Unsupported `protocol_version`."));
    }
    if hello.authentication_method != SCRAM_SHA_256 {
        return Err(refused(4, "Unsupported `authentication_method`."));
    }
    let scram = ScramServer::begin(&hello.authentication, lookup)?;
    writer.write_all(&success(scram.challenge())).await?;
    writer.flush().await?;

    let last = reader.read_text(MAX_MESSAGE_BYTES).await?;
    let last: Authentication =
        serde_json::from_slice(&last).map_err(|error| refused(2, &format!("Invalid handshake JSON: {error}")))?;
    let (signature, user) = scram.finish(&last.authentication)?;
    writer.write_all(&success(&signature)).await?;
    writer.flush().await?;
    Ok(user)
}

fn success(authentication: &str) -> Vec<u8> {
    message(&Authentication { success: Some(true), authentication: authentication.to_owned() })
}

fn message<T: Serialize>(value: &T) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).expect("handshake messages are plain structs of texts and numbers");
    text.push(0);
    text
}

async fn read_answer<R, T>(reader: &mut WireReader<R>) -> Result<T, HandshakeError>
where
    R: AsyncRead + Unpin,
    T: for<'de> Deserialize<'de>,
{
    let text = reader.read_text(MAX_MESSAGE_BYTES).await?;
    if let Ok(refusal) = serde_json::from_slice::<Refusal>(&text)
        && !refusal.success
    {
        return Err(HandshakeError::Refused { message: refusal.error, code: refusal.error_code });
    }
    serde_json::from_slice(&text)
        .map_err(|_| HandshakeError::Protocol(String::from_utf8_lossy(&text).trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shake(password: &str, piece: usize) -> (Result<Versions, HandshakeError>, Result<String, HandshakeError>) {
        let (near, far) = tokio::io::duplex(piece);
        let credentials = Credentials::for_password("right").expect("random bytes");
        let server = async move {
            let (reader, mut writer) = tokio::io::split(far);
            let mut reader = WireReader::new(reader, 1000);
            accept(&mut reader, &mut writer, "2.4.4", |name| (name == "admin").then_some(credentials)).await
        };
        let client = async {
            let (user, password) = password.split_once(':').expect("user:password");
            let (reader, mut writer) = tokio::io::split(near);
            connect(&mut WireReader::new(reader, 1000), &mut writer, user, password).await
        };
        tokio::join!(client, server)
    }

    #[tokio::test]
    async fn both_sides_agree_in_any_fragments() {
        for piece in [1, 7, 64, 4096] {
            let (client, server) = shake("admin:right", piece).await;
            assert_eq!(client.expect("connected").server_version, "2.4.4");
            assert_eq!(server.expect("accepted"), "admin");
        }
    }

    #[tokio::test]
    async fn a_refusal_carries_the_servers_code() {
        let (client, server) = shake("admin:wrong", 100).await;
        assert!(matches!(client, Err(HandshakeError::Refused { code: 12, .. })), "{client:?}");
        assert!(matches!(server, Err(HandshakeError::Scram(ScramError::WrongPassword))));
        let (client, _) = shake("nobody:right", 100).await;
        let error = client.expect_err("no such user");
        assert!(matches!(&error, HandshakeError::Refused { code: 17, .. }) && error.is_authentication());
    }

    #[tokio::test]
    async fn another_protocol_is_told_so() {
        let (mut near, far) = tokio::io::duplex(1000);
        near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
        let (reader, mut writer) = tokio::io::split(far);
        let outcome = accept(&mut WireReader::new(reader, 1000), &mut writer, "2.4.4", |_| None).await;
        assert!(matches!(outcome, Err(HandshakeError::Protocol(_))));
        let told = WireReader::new(near, 1000).read_text(1000).await.expect("a text");
        assert!(told.starts_with(b"ERROR: Received an unsupported protocol version"));
    }
}
