//! The recorded exchanges of the Python trough, for the roles that a worker answers: read, write and local. The
//! master's provisionings and promotions are sent to the worker's own segment manager.

mod common;

use common::Cluster;
use serde_json::Value;

/// Differs on purpose, as the recordings' README lists: the answer may be an error, or another right answer.
const ON_PURPOSE: &[(&str, &str)] = &[
    ("read blob", "[{\"b\":\"AP9B\"},\n{\"b\":\"\"}]\n"),
    ("read values", "[{\"column1\":1}]\n"),
    ("write blanks only", "500 Server Error: No query provided.\n"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recorded_exchanges_agree() {
    let cluster = Cluster::start().await;
    let one = cluster.worker("localhost", "").await;
    for (schema, sql) in [
        ("s0", ""),
        ("s1", "create table foo (id integer primary key, bar varchar(100), baz real);"),
        ("s2", "create table two(x,y);"),
    ] {
        cluster.schema(schema, sql).await;
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/data/http/cases.jsonl");
    let text = std::fs::read_to_string(path).expect("recorded cases");
    let write_url = format!("http://{}", one.at.write);
    let fill = |text: &str| {
        text.replace("{WRITE_URL}", &write_url).replace("{HDFS_PATH}", &cluster.store_root().display().to_string())
    };
    let (mut agreed, mut differing) = (0, Vec::new());
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).expect("a case");
        let field = |name: &str| case[name].as_str().expect("a text");
        let passed_on = field("role") == "master"
            && matches!(field("path"), "/provision" | "/promote")
            && field("method") == "POST";
        let port = match field("role") {
            "read" => one.at.read,
            "write" => one.at.write,
            "local" => one.at.manage,
            _ if passed_on => one.at.manage,
            _ => continue,
        };
        let method = reqwest::Method::from_bytes(field("method").as_bytes()).expect("a method");
        let mut request = cluster.client.request(method, format!("http://{port}{}", field("path")));
        for (name, value) in case["headers"].as_object().expect("headers") {
            request = request.header(name, value.as_str().expect("a value"));
        }
        let answer = request.body(field("body").to_owned()).send().await.expect("an answer");
        let status = answer.status().as_u16();
        let content_type = answer.headers().get("content-type").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let body = answer.text().await.expect("text");
        match difference(&case, fill, status, content_type.as_deref(), &body) {
            None => agreed += 1,
            Some(why) => differing.push(format!("{}: {why}", field("name"))),
        }
    }
    assert!(differing.is_empty(), "{agreed} agree, but\n{}", differing.join("\n"));
    assert!(agreed >= 65, "only {agreed} cases ran");
    one.stop().await;
}

fn difference(
    case: &Value,
    fill: impl Fn(&str) -> String,
    status: u16,
    content_type: Option<&str>,
    body: &str,
) -> Option<String> {
    let (name, wanted) = (case["name"].as_str().unwrap_or_default(), &case["answer"]);
    let wanted_status = wanted["status"].as_u64().unwrap_or_default() as u16;
    if let Some((_, ours)) = ON_PURPOSE.iter().find(|(case, _)| *case == name) {
        return (body != *ours).then(|| format!("ours should be {ours:?}, not {status} {body:?}"));
    }
    if matches!(name, "read explain" | "read pragma") {
        return (status != 200 && status != 500).then(|| format!("{status} {body:?}"));
    }
    // A mistake of the client's may be any of 400–499 or 500, with a text that names the thing.
    if wanted_status == 500 {
        let fits = (400..=500).contains(&status) && !body.trim().is_empty();
        let prefixed = status != 500 || case["role"] == "local" || body.starts_with("500 Server Error: ");
        return (!fits || !prefixed).then(|| format!("wanted 500 {:?}, got {status} {body:?}", wanted["body"]));
    }
    if status != wanted_status {
        return Some(format!("wanted {wanted_status}, got {status} {body:?}"));
    }
    if let Some(media) = wanted["content_type"].as_str()
        && content_type.map(|c| c.split(';').next().unwrap_or(c)) != Some(media)
    {
        return Some(format!("wanted {media}, got {content_type:?}"));
    }
    let wanted_body = fill(wanted["body"].as_str()?);
    let same = match (serde_json::from_str::<Value>(&wanted_body), serde_json::from_str::<Value>(body)) {
        (Ok(wanted), Ok(got)) => sorted(wanted) == sorted(got),
        _ => wanted_body == body,
    };
    // Rows are compared byte by byte too, but for the order of a list of names.
    (!same).then(|| format!("wanted {wanted_body:?}, got {body:?}"))
}

/// A list of texts in order; anything else as it is.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(mut items) if items.iter().all(Value::is_string) => {
            items.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
            Value::Array(items)
        }
        other => other,
    }
}
