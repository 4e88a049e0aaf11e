//! `/schema`: as the Python trough answers.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use serde_json::Value as Json;
use trough_core::{SchemaId, SegmentError, records::Schema};
use trough_http::plain;

use super::{Api, answer};

/// `GET /schema`: the ids.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Response {
    match api.context.catalog.schemas().await {
        Ok(schemas) => {
            let ids: Vec<&str> = schemas.iter().map(|s| s.id.as_str()).collect();
            answer::json(StatusCode::OK, &ids)
        }
        Err(e) => answer::old_error(&answer::of_catalog(e)),
    }
}

/// A schema by its id in the path; the answer to send if there is none.
pub(super) async fn find(api: &Api, id: &str) -> Result<Schema, Response> {
    let unknown = || plain(StatusCode::NOT_FOUND, format!("404 Not Found: schema {id:?} is not registered\n"));
    let Ok(id) = SchemaId::new(id) else { return Err(unknown()) };
    match api.context.catalog.schema(&id).await {
        Ok(Some(schema)) => Ok(schema),
        Ok(None) => Err(unknown()),
        Err(e) => Err(answer::old_error(&answer::of_catalog(e))),
    }
}

/// `GET /schema/ID`: the record.
pub(super) async fn get_json(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Response {
    match find(&api, &id).await {
        Ok(schema) => answer::json(StatusCode::OK, &schema),
        Err(response) => response,
    }
}

/// `GET /schema/ID/sql`: the script.
pub(super) async fn get_sql(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Response {
    match find(&api, &id).await {
        Ok(schema) => ([(header::CONTENT_TYPE, "application/sql")], Body::from(schema.sql)).into_response(),
        Err(response) => response,
    }
}

/// `PUT /schema/ID`: a record.
pub(super) async fn put_json(State(api): State<Arc<Api>>, Path(id): Path<String>, body: Bytes) -> Response {
    match parse(&id, &body) {
        Ok(sql) => store(&api, &id, sql).await,
        Err(message) => plain(StatusCode::BAD_REQUEST, message),
    }
}

/// `PUT /schema/ID/sql`: a script.
pub(super) async fn put_sql(State(api): State<Arc<Api>>, Path(id): Path<String>, body: Bytes) -> Response {
    match String::from_utf8(body.into()) {
        Ok(sql) => store(&api, &id, sql).await,
        Err(e) => plain(StatusCode::BAD_REQUEST, format!("schema sql failed validation: not UTF-8: {e}")),
    }
}

/// The script of a record, checked as the Python trough checks it, with its words.
fn parse(id: &str, body: &[u8]) -> Result<String, String> {
    let Ok(document) = serde_json::from_slice::<Json>(body) else {
        return Err("input could not be parsed as json".into());
    };
    let Json::Object(fields) = document else {
        return Err("input json is no object (should have the keys {'id', 'sql'})".into());
    };
    if fields.len() != 2 || !fields.contains_key("id") || !fields.contains_key("sql") {
        let mut keys: Vec<&String> = fields.keys().collect();
        keys.sort_unstable_by(|a, b| b.cmp(a));
        let keys: Vec<String> = keys.iter().map(|k| format!("'{k}'")).collect();
        let set = if keys.is_empty() { "set()".to_owned() } else { format!("{{{}}}", keys.join(", ")) };
        return Err(format!("input json has keys {set} (should be {{'id', 'sql'}})"));
    }
    if fields["id"].as_str() != Some(id) {
        let given = fields["id"].as_str().map_or_else(|| fields["id"].to_string(), |s| format!("'{s}'"));
        return Err(format!("id in json {given} does not match id in url '{id}'"));
    }
    fields["sql"].as_str().map(str::to_owned).ok_or_else(|| "schema sql failed validation: sql is no text".into())
}

async fn store(api: &Arc<Api>, id: &str, sql: String) -> Response {
    let id = match SchemaId::new(id) {
        Ok(id) => id,
        Err(e) => return plain(StatusCode::BAD_REQUEST, e.to_string()),
    };
    let (engine, script) = (api.engine.clone(), sql.clone());
    let checked = tokio::task::spawn_blocking(move || engine.validate_schema(&script)).await;
    match checked {
        Ok(Ok(())) => {}
        Ok(Err(why)) => return plain(StatusCode::BAD_REQUEST, format!("schema sql failed validation: {why}")),
        Err(e) => return trough_http::server_error(e),
    }
    match api.context.catalog.put_schema(&Schema { id: id.to_string(), sql }).await {
        Ok(created) => {
            tracing::info!(schema = %id, created, "registered a schema");
            plain(if created { StatusCode::CREATED } else { StatusCode::NO_CONTENT }, "")
        }
        Err(e) => answer::old_error(&SegmentError::new(trough_core::ErrorCode::Internal, e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_python_troughs_words() {
        let refused = |body: &str| parse("s1", body.as_bytes()).expect_err("refused");
        assert_eq!(refused("]]}what the"), "input could not be parsed as json");
        assert_eq!(refused(r#"{"id":"s2","sql":""}"#), "id in json 's2' does not match id in url 's1'");
        assert_eq!(refused(r#"{"id":"s1"}"#), "input json has keys {'id'} (should be {'id', 'sql'})");
        assert_eq!(
            refused(r#"{"id":"s1","sql":"","z":1}"#),
            "input json has keys {'z', 'sql', 'id'} (should be {'id', 'sql'})"
        );
        assert_eq!(refused("{}"), "input json has keys set() (should be {'id', 'sql'})");
        assert!(refused("[1]").contains("no object"));
        assert_eq!(parse("s1", br#"{"id":"s1","sql":"x"}"#).as_deref(), Ok("x"));
    }
}
