//! What is wrong with the canonical store, and what to do, in the words of the store that it is.

use trough_config::Settings;
use trough_store::{Store, StoreError, StoreOptions};

use super::{ANSWER_LIMIT, Report};

/// What a store that is gone means.
const MEANWHILE: &str = "queries and writes go on meanwhile; promotions fail until then";

pub(super) async fn check(settings: &Settings, report: &mut Report) {
    let options = StoreOptions::new(settings.store_timeout, settings.store_options.clone());
    let store = match trough_store::open_with(&settings.store, &options) {
        Ok(store) => store,
        Err(e @ StoreError::Unprepared { .. }) => return report.fail(e, "set it for every daemon, and start it again"),
        Err(e) => return report.fail(e, "correct STORE (or HDFS_*)"),
    };
    let limit = ANSWER_LIMIT * 4;
    match tokio::time::timeout(limit, store.check_writable()).await {
        Ok(Ok(())) => report.good("is there, and takes writes"),
        Ok(Err(e)) => {
            let advice = advice(settings, &*store, &e).await;
            report.fail(e, advice);
        }
        Err(_) => report.fail(format!("has not answered within {} s", limit.as_secs()), out_of_reach(settings).await),
    }
}

async fn advice(settings: &Settings, store: &dyn Store, error: &StoreError) -> String {
    let hdfs = settings.store.starts_with("hdfs://");
    let (server, path) = split(store.url());
    match error {
        StoreError::Unavailable { why, .. } if why.contains("does not exist") && hdfs => format!(
            "create it once: `hdfs dfs -mkdir -p {path} && hdfs dfs -chown USER {path}`, or correct STORE (HDFS_PATH); \
             nothing of trough makes it"
        ),
        StoreError::Unavailable { why, .. } if why.contains("SafeMode") => format!(
            "the name node is in safe mode: `hdfs dfsadmin -fs {server} -safemode get`. It leaves it by itself once enough data \
             nodes have reported; if all are there, `-safemode leave`; {MEANWHILE}"
        ),
        StoreError::Denied { .. } if hdfs => format!(
            "let the daemons' user write there: `hdfs dfs -chown USER {path}`; the user is HADOOP_USER_NAME, or `user` in \
             STORE_OPTIONS, else the process's"
        ),
        StoreError::Denied { .. } => "let the daemons' user write there".to_owned(),
        _ => out_of_reach(settings).await,
    }
}

/// What to do about a store that does not answer.
async fn out_of_reach(settings: &Settings) -> String {
    match settings.store.split_once("://") {
        Some(("hdfs", rest)) => {
            let (server, _) = split(&settings.store);
            let address = rest.split('/').next().unwrap_or_default();
            format!(
                "{}see that the name node runs and is reached from here (`hdfs dfsadmin -fs {server} -report`), and that STORE \
                 (HDFS_HOST, HDFS_PORT) names it; {MEANWHILE}",
                heard_at(address).await
            )
        }
        Some(("file", _)) => format!("see that it is mounted; {MEANWHILE}"),
        _ => format!("see that it is reached from here, and that STORE and STORE_OPTIONS fit it; {MEANWHILE}"),
    }
}

/// What a connection to the name node's port says; nothing for a name service, which has none.
async fn heard_at(address: &str) -> String {
    if !address.contains(':') {
        return String::new();
    }
    match tokio::time::timeout(ANSWER_LIMIT, tokio::net::TcpStream::connect(address)).await {
        Ok(Ok(_)) => format!("something listens at {address}: the name node hangs, or it is none; "),
        Ok(Err(e)) => format!("nothing listens at {address} ({e}); "),
        Err(_) => format!("there is no way to {address} from here; "),
    }
}

/// The server and the path of a URL.
fn split(url: &str) -> (&str, &str) {
    let authority = url.find("://").map_or(0, |at| at + 3);
    url.split_at(url[authority..].find('/').map_or(url.len(), |at| authority + at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_server_and_a_path() {
        assert_eq!(split("hdfs://n:8020/a/b"), ("hdfs://n:8020", "/a/b"));
        assert_eq!(split("hdfs://n"), ("hdfs://n", ""));
        assert_eq!(split("/a/b"), ("", "/a/b"));
    }
}
