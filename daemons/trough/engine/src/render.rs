//! The forms of an answer.
/// The form of a query's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Frames in MessagePack (`application/msgpack`).
    MessagePack,
    /// One JSON object a line (`application/x-ndjson`).
    Ndjson,
    /// One JSON document (`application/json`).
    Json,
}
impl Format {
    /// The form that an Accept header asks for; MessagePack if it names none of ours.
    pub fn of_accept(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or_default();
        if accept.contains("ndjson") {
            Self::Ndjson
        } else if accept.contains("application/json") {
            Self::Json
        } else {
            Self::MessagePack
        }
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::MessagePack => trough_core::wire::MSGPACK,
            Self::Ndjson => trough_core::wire::NDJSON,
            Self::Json => "application/json",
        }
    }
}
