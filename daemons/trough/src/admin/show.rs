//! The cluster, for people.

use indicatif::HumanBytes;
use serde_json::Value as Json;

/// The workers and what is set.
pub(super) fn status(document: &Json) {
    let cluster = &document["cluster"];
    let summary = &cluster["summary"];
    println!(
        "master {}, version {}, {} segments ({}), {} under-replicated, {} unserved, {} copies in flight",
        document["master"].as_str().unwrap_or("?"),
        document["version"].as_str().unwrap_or("?"),
        summary["segments"],
        bytes(&summary["bytes"]),
        summary["under_replicated"],
        summary["unserved"],
        summary["in_flight"],
    );
    controls(&document["controls"]);
    println!(
        "{:<20} {:<5} {:<9} {:>9} {:>11} {:>9} {:>8}  protocol",
        "worker", "tier", "state", "assigned", "bytes", "segments", "copying"
    );
    for worker in cluster["workers"].as_array().into_iter().flatten() {
        let state = match (worker["draining"] == true, worker["stopping"] == true) {
            (true, _) => "draining",
            (_, true) => "stopping",
            _ => worker["presence"].as_str().unwrap_or("?"),
        };
        let count = |name: &str| worker[name].as_u64().map_or("–".to_owned(), |n| n.to_string());
        println!(
            "{:<20} {:<5} {state:<9} {:>9} {:>11} {:>9} {:>8}  {}",
            worker["node"].as_str().unwrap_or("?"),
            worker["tier"].as_str().unwrap_or("?"),
            count("assigned"),
            bytes(&worker["assigned_bytes"]),
            count("segments"),
            count("copying"),
            count("protocol"),
        );
    }
}

/// The pause, the limits and the plan that is being applied.
pub(super) fn controls(controls: &Json) {
    match &controls["paused"] {
        Json::Null => println!("placement is not paused"),
        paused => {
            let reason = paused["reason"].as_str().map(|r| format!(": {r}")).unwrap_or_default();
            println!("placement is PAUSED since {}{reason}", time(paused["since"].as_f64().unwrap_or(0.0)));
        }
    }
    for (name, one) in controls["throttles"].as_object().into_iter().flatten() {
        let set = if one["set"].is_null() { "as the settings say" } else { "set at run time" };
        println!("  {name:<22} {:>14}  {set}", one["effective"].to_string());
    }
    if let applying @ Json::Object(_) = &controls["applying"] {
        println!("{}", progress(applying));
    }
}

/// How far a plan is.
pub(super) fn progress(applying: &Json) -> String {
    let error = applying["error"].as_str().map(|e| format!(": {e}")).unwrap_or_default();
    format!(
        "plan {}: {} of {} copies made, {} of {} dropped{error}",
        applying["state"].as_str().unwrap_or("?"),
        applying["copied"],
        applying["copies"],
        applying["dropped"],
        applying["drops"],
    )
}

/// Bytes, for people.
pub(super) fn bytes(number: &Json) -> String {
    HumanBytes(number.as_u64().unwrap_or(0)).to_string()
}

fn time(epoch: f64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs_f64(epoch.clamp(0.0, 1e11));
    httpdate::fmt_http_date(at)
}
