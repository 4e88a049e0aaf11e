//! Answers as they come, and cursors over them.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::Stream;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tokio::time::{Instant, Sleep};

use crate::{
    connection::Query,
    error::{Error, ErrorClass},
    proto::response_type,
};

#[derive(Deserialize)]
struct RawResponse<'a> {
    t: u64,
    #[serde(borrow, default)]
    r: Vec<&'a RawValue>,
    #[serde(default)]
    e: Option<u64>,
}

/// What one answer says.
#[derive(Debug)]
pub(crate) enum Answer<T> {
    /// A single value.
    Atom(T),
    /// Rows; `more` if the server has more of them.
    Rows { rows: Vec<Result<T, Error>>, more: bool },
}

/// Reads an answer.
pub(crate) fn decode<T: DeserializeOwned>(body: &Bytes) -> Result<Answer<T>, Error> {
    let response: RawResponse<'_> = serde_json::from_slice(body).map_err(malformed)?;
    let row = |row: &&RawValue| serde_json::from_str(row.get()).map_err(malformed);
    match response.t {
        response_type::SUCCESS_ATOM | response_type::SERVER_INFO => response
            .r
            .first()
            .ok_or_else(|| Error::Decode("an answer without a value".to_owned()))
            .and_then(row)
            .map(Answer::Atom),
        response_type::SUCCESS_SEQUENCE | response_type::SUCCESS_PARTIAL => Ok(Answer::Rows {
            rows: response.r.iter().map(row).collect(),
            more: response.t == response_type::SUCCESS_PARTIAL,
        }),
        response_type::WAIT_COMPLETE => Ok(Answer::Rows { rows: Vec::new(), more: false }),
        kind => {
            let message = response.r.first().and_then(|text| serde_json::from_str(text.get()).ok());
            let message: String = message.unwrap_or_else(|| "no reason given".to_owned());
            Err(match kind {
                response_type::CLIENT_ERROR => Error::Client(message),
                response_type::COMPILE_ERROR => Error::Compile(message),
                response_type::RUNTIME_ERROR => {
                    Error::Runtime { class: ErrorClass::from_code(response.e.unwrap_or_default()), message }
                }
                other => Error::Decode(format!("unknown type {other} of an answer")),
            })
        }
    }
}

fn malformed(error: serde_json::Error) -> Error {
    Error::Decode(error.to_string())
}

/// The rows of a query, as a stream. The next batch is asked for only when the rows of the last are consumed, so a slow
/// consumer holds up the server and nobody else. Dropping it stops the query. After an error of the query it ends; a row
/// that does not decode is an error of its own, and the next one follows.
#[derive(Debug)]
pub struct Cursor<T> {
    /// None once the query is over.
    query: Option<Query>,
    rows: VecDeque<Result<T, Error>>,
    /// Whether a batch is on its way.
    asked: bool,
    /// How long a batch may take; a feed waits for ever.
    batch_timeout: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
}

// Nothing in a cursor is pinned but what its own box pins.
impl<T> Unpin for Cursor<T> {}

impl<T: DeserializeOwned> Cursor<T> {
    /// A cursor over a query whose first answer has come. A single array is taken as its elements, any other single value as
    /// the only row.
    pub(crate) fn new(query: Query, first: &Bytes, batch_timeout: Option<Duration>) -> Result<Cursor<T>, Error> {
        let mut cursor = Cursor { query: Some(query), rows: VecDeque::new(), asked: false, batch_timeout, timer: None };
        cursor.take(first)?;
        Ok(cursor)
    }

    fn take(&mut self, body: &Bytes) -> Result<(), Error> {
        let more = match decode::<Box<RawValue>>(body) {
            Err(error) => {
                self.finish();
                return Err(error);
            }
            Ok(Answer::Atom(value)) => {
                match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
                    Ok(items) => self.rows.extend(items.iter().map(|item| parse(item))),
                    Err(_) => self.rows.push_back(parse(&value)),
                }
                false
            }
            Ok(Answer::Rows { rows, more }) => {
                self.rows.extend(rows.into_iter().map(|row| row.and_then(|row| parse(&row))));
                more
            }
        };
        if !more {
            self.finish();
        }
        Ok(())
    }

    fn finish(&mut self) {
        if let Some(mut query) = self.query.take() {
            query.finish();
        }
    }
}

fn parse<T: DeserializeOwned>(row: &RawValue) -> Result<T, Error> {
    serde_json::from_str(row.get()).map_err(malformed)
}

impl<T: DeserializeOwned> Stream for Cursor<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let cursor = &mut *self;
        loop {
            if let Some(row) = cursor.rows.pop_front() {
                return Poll::Ready(Some(row));
            }
            let Some(query) = &mut cursor.query else {
                return Poll::Ready(None);
            };
            if !cursor.asked {
                query.ask_for_more();
                cursor.asked = true;
                cursor.timer =
                    cursor.batch_timeout.map(|timeout| Box::pin(tokio::time::sleep_until(Instant::now() + timeout)));
            }
            match query.poll_response(context) {
                Poll::Ready(answer) => {
                    cursor.asked = false;
                    cursor.timer = None;
                    if let Err(error) = answer.and_then(|body| cursor.take(&body)) {
                        cursor.query = None;
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                Poll::Pending => {
                    let Some(timer) = &mut cursor.timer else {
                        return Poll::Pending;
                    };
                    ready!(timer.as_mut().poll(context));
                    cursor.query = None;
                    cursor.timer = None;
                    return Poll::Ready(Some(Err(Error::Timeout { after: cursor.batch_timeout.unwrap_or_default() })));
                }
            }
        }
    }
}

impl<T> futures::stream::FusedStream for Cursor<T>
where
    T: DeserializeOwned,
{
    fn is_terminated(&self) -> bool {
        self.query.is_none() && self.rows.is_empty()
    }
}
