//! `GET /v1/schema/ID/describe`: what tables a new segment of the schema has, for importing foreign tables.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use trough_core::{ErrorCode, SegmentError};

use super::{Api, answer, schema};

/// Tables, columns and views of the schema's script.
pub(super) async fn describe(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Response {
    let schema = match schema::find(&api, &id).await {
        Ok(schema) => schema,
        Err(response) if response.status() == StatusCode::NOT_FOUND => {
            let unknown = SegmentError::new(ErrorCode::BadRequest, format!("schema {id:?} is not registered"));
            return answer::json(StatusCode::NOT_FOUND, &serde_json::json!({ "error": unknown }));
        }
        Err(response) => return response,
    };
    let engine = api.engine.clone();
    match tokio::task::spawn_blocking(move || engine.describe_schema(&schema.sql)).await {
        Ok(Ok(description)) => answer::json(StatusCode::OK, &description),
        Ok(Err(why)) => answer::error(&SegmentError::new(ErrorCode::BadSql, format!("describe schema {id:?}: {why}"))),
        Err(e) => trough_http::server_error(e),
    }
}
