//! Plans that people look at before they are carried out.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bytes::Bytes;
use serde_json::json;
use tokio::sync::oneshot;
use trough_core::{ErrorCode, SegmentError};
use trough_http::read_json;

use super::{Api, answer};
use crate::{reconciler::Planning, saved::SavedPlan};

/// How long the reconciliation may take to answer.
const LIMIT: Duration = Duration::from_secs(120);

/// `GET /v1/plan`: everything that separates what is from what shall be.
pub(super) async fn make(State(api): State<Arc<Api>>) -> Response {
    match ask(&api, Planning::Make).await {
        Ok(Ok(plan)) => answer::json(StatusCode::OK, &plan),
        Ok(Err(why)) => {
            answer::error(&SegmentError::new(ErrorCode::Unavailable, format!("no plan can be made: {why}")))
        }
        Err(error) => answer::error(&error),
    }
}

/// `POST /v1/plan`: carries a plan out, if it is still right.
pub(super) async fn apply(State(api): State<Arc<Api>>, headers: HeaderMap, body: Bytes) -> Response {
    let read = tokio::task::spawn_blocking(move || read_json::<SavedPlan>(&headers, &body)).await;
    let plan = match read {
        Ok(Ok(plan)) => Box::new(plan),
        Ok(Err(e)) => return answer::error(&answer::bad(format!("the body is no plan: {e}"))),
        Err(e) => return trough_http::server_error(e),
    };
    match ask(&api, |answer| Planning::Apply(plan, answer)).await {
        Ok(Ok(applied)) => answer::json(StatusCode::ACCEPTED, &json!({ "applying": applied })),
        Ok(Err(changes)) => {
            let error = answer::bad(format!("the plan is not applied: {}", changes.join("; ")));
            answer::json(StatusCode::CONFLICT, &json!({"error": error, "changes": changes}))
        }
        Err(error) => answer::error(&error),
    }
}

async fn ask<T>(api: &Api, make: impl FnOnce(oneshot::Sender<T>) -> Planning) -> Result<T, SegmentError> {
    let busy = |why: &str| SegmentError::new(ErrorCode::Unavailable, format!("{why}; try again"));
    let to =
        api.context.planning.lock().clone().ok_or_else(|| busy("this server has not become the sync master yet"))?;
    let (sender, receiver) = oneshot::channel();
    let asked = async {
        to.send(make(sender)).await.ok()?;
        receiver.await.ok()
    };
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(busy("this server is not the sync master any more")),
        Err(_) => Err(busy("the reconciliation does not answer")),
    }
}
