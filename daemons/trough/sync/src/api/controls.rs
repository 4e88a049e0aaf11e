//! What an operator sets for the whole cluster: the pause of placement, and throttles.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use trough_core::records::{Controls, Throttles};
use trough_http::read_json;

use super::{Api, answer, proxy};
use crate::context::Context;

/// The most copies that a worker may make at the same time.
const MOST_COPIES: u64 = 1_024;

/// `GET /v1/controls`.
pub(super) async fn get(State(api): State<Arc<Api>>) -> Response {
    answer::json(StatusCode::OK, &document(&api.context))
}

/// What is set, what the settings of this node say, and what is in force.
pub(super) fn document(context: &Context) -> Json {
    let controls = context.controls.read().clone();
    let settings = &context.settings;
    let one =
        |set: Option<u64>, setting: u64| json!({"set": set, "setting": setting, "effective": set.unwrap_or(setting)});
    let Throttles { move_segments, move_bytes, copy_bandwidth, promotion_bandwidth, copy_thread_pool_size } =
        controls.throttles;
    json!({
        "paused": controls.paused.map(|p| json!({"since": p.since.epoch_time, "reason": p.reason})),
        "throttles": {
            "move_segments": one(move_segments, settings.move_segments),
            "move_bytes": one(move_bytes, settings.move_bytes.unwrap_or(0)),
            "copy_bandwidth": one(copy_bandwidth, settings.copy_bandwidth.unwrap_or(0)),
            "promotion_bandwidth": one(promotion_bandwidth, settings.promotion_bandwidth.unwrap_or(0)),
            "copy_thread_pool_size": one(copy_thread_pool_size, settings.copy_thread_pool_size as u64),
        },
        "applying": context.view.read().applying,
    })
}

#[derive(Default, Deserialize)]
struct Pause {
    #[serde(default)]
    reason: Option<String>,
}

/// `POST /v1/pause {"reason"}`.
pub(super) async fn pause(State(api): State<Arc<Api>>, headers: HeaderMap, body: Bytes) -> Response {
    let wish = if body.is_empty() { Ok(Pause::default()) } else { read_json(&headers, &body) };
    let wish: Pause = match wish {
        Ok(wish) => wish,
        Err(e) => return answer::error(&answer::bad(format!("the body is no pause request: {e}"))),
    };
    let catalog = api.context.catalog.clone();
    set(&api.context, move |epoch| async move { catalog.set_paused(Some(wish.reason.as_deref()), epoch).await }).await
}

/// `POST /v1/resume`.
pub(super) async fn resume(State(api): State<Arc<Api>>) -> Response {
    let catalog = api.context.catalog.clone();
    set(&api.context, move |epoch| async move { catalog.set_paused(None, epoch).await }).await
}

/// `POST /v1/throttle {NAME: number or null}`.
pub(super) async fn throttle(State(api): State<Arc<Api>>, body: Bytes) -> Response {
    let changes = match serde_json::from_slice::<Map<String, Json>>(&body) {
        Ok(changes) => changes,
        Err(e) => return answer::error(&answer::bad(format!("the body is no throttle request: {e}"))),
    };
    if let Err(why) = check(&changes) {
        return answer::error(&answer::bad(why));
    }
    let catalog = api.context.catalog.clone();
    set(&api.context, move |epoch| async move { catalog.set_throttles(changes, epoch).await }).await
}

fn check(changes: &Map<String, Json>) -> Result<(), String> {
    let names = serde_json::to_value(Throttles::default()).unwrap_or_default();
    for (name, value) in changes {
        if names.get(name).is_none() {
            let known: Vec<&str> = names.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            return Err(format!("there is no throttle '{name}'; there are {}", known.join(", ")));
        }
        let fits = match (name.as_str(), value.as_u64()) {
            _ if value.is_null() => true,
            ("copy_thread_pool_size", Some(n)) => (1..=MOST_COPIES).contains(&n),
            ("move_segments", Some(n)) => n > 0,
            (_, number) => number.is_some(),
        };
        if !fits {
            let wanted = match name.as_str() {
                "copy_thread_pool_size" => format!("a number from 1 to {MOST_COPIES}"),
                "move_segments" => "a number from 1".to_owned(),
                _ => "a number from 0 (no limit)".to_owned(),
            };
            return Err(format!("{name} is {value}; it must be {wanted}, or null for what the settings say"));
        }
    }
    Ok(())
}

/// Sets something in the metadata, and here at once: when it is answered, no plan that was made before is committed any more.
async fn set<F: Future<Output = trough_client::catalog::Result<Controls>>>(
    context: &Context,
    change: impl FnOnce(u64) -> F,
) -> Response {
    let _committing = context.committing.lock().await;
    let Some(term) = context.term() else {
        return proxy::resigned();
    };
    match change(term.epoch).await {
        Ok(controls) => {
            tracing::info!(controls = %serde_json::to_string(&controls).unwrap_or_default(), "controls changed");
            *context.controls.write() = controls;
            context.nudge.notify_one();
            answer::json(StatusCode::OK, &document(context))
        }
        Err(e) => answer::error(&answer::of_catalog(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttles_are_checked_before_they_are_set() {
        let check = |changes: Json| check(changes.as_object().expect("an object"));
        assert!(check(json!({"copy_bandwidth": 0, "move_bytes": 7, "move_segments": null})).is_ok());
        assert!(check(json!({"copy_thread_pool_size": 1024})).is_ok());
        for bad in [
            json!({"copy_thread_pool_size": 0}),
            json!({"copy_thread_pool_size": 1025}),
            json!({"move_segments": 0}),
            json!({"copy_bandwidth": -1}),
            json!({"copy_bandwidth": "1"}),
            json!({"copy_bandwith": 1}),
        ] {
            assert!(check(bad.clone()).is_err(), "{bad}");
        }
        assert!(check(json!({"x": 1})).is_err_and(|why| why.contains("promotion_bandwidth")));
    }
}
