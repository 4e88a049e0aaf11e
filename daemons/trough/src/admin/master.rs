//! Asking the sync master, wherever it is.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use reqwest::{Method, Response, StatusCode, header::CONTENT_TYPE};
use serde_json::Value as Json;
use trough_client::{Catalog, http::HttpOptions};

/// How long a master is waited for that is just being elected.
const PATIENCE: Duration = Duration::from_secs(40);
const PAUSE: Duration = Duration::from_millis(300);

/// The sync master of a cluster.
pub(super) struct Master {
    catalog: Catalog,
    http: reqwest::Client,
}

impl Master {
    pub(super) fn new(url: &str, token: Option<String>, tls_ca: Option<&Path>) -> anyhow::Result<Self> {
        let options = trough_reql::Options::from_url(url).with_context(|| format!("read the URL {url:?} (-u)"))?;
        let ca_pem = match tls_ca {
            Some(path) => Some(std::fs::read(path).with_context(|| format!("read {} (--tls-ca)", path.display()))?),
            None => None,
        };
        let http = trough_client::http::client(&HttpOptions { token, ca_pem, ..HttpOptions::default() })?;
        Ok(Self { catalog: Catalog::new(trough_reql::Client::new(options)), http })
    }

    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// An answer as JSON.
    ///
    /// # Errors
    /// What was refused, and why.
    pub(super) async fn json(&self, method: Method, path: &str, body: Option<Json>) -> anyhow::Result<Json> {
        let body = body.map(|body| body.to_string().into_bytes());
        let answer = self.ask(method, path, body).await?;
        let url = answer.url().to_string();
        answer.json().await.with_context(|| format!("read the answer of {url}"))
    }

    /// Asks; while a mastership changes hands, again. Every request here may be made twice.
    ///
    /// # Errors
    /// What was refused, and why.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> anyhow::Result<Response> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let why = match self.catalog.master().await.context("ask the metadata who is sync master (-u)")? {
                Some((master, true)) => {
                    let url = format!("{}/{path}", master.url.trim_end_matches('/'));
                    let mut request = self.http.request(method.clone(), &url);
                    if let Some(body) = &body {
                        request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
                    }
                    match request.send().await {
                        Ok(answer) if answer.status().is_success() => return Ok(answer),
                        Ok(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => refusal(answer).await,
                        Ok(answer) => bail!("{}", refusal(answer).await),
                        Err(error) if error.is_connect() => format!("{url}: {:#}", anyhow::Error::from(error)),
                        Err(error) => return Err(error).with_context(|| format!("ask {url}")),
                    }
                }
                Some((master, false)) => format!("the mastership of {} has ended", master.url),
                None => "no sync server has been elected; is one running?".to_owned(),
            };
            if Instant::now() > deadline {
                bail!("the sync master cannot be asked: {why}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What an answer says that is no success.
async fn refusal(answer: Response) -> String {
    let (status, url) = (answer.status(), answer.url().to_string());
    let text = answer.text().await.unwrap_or_default();
    let told = serde_json::from_str::<Json>(&text).ok();
    match told.as_ref().and_then(|t| t["error"]["message"].as_str()) {
        Some(message) => message.to_owned(),
        None if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN => {
            format!("{}; set TROUGH_TOKEN to a token with the role admin", text.trim())
        }
        None if status == StatusCode::NOT_FOUND => {
            format!("{url} is not known there: the sync master is of an older version, upgrade it")
        }
        None => format!("{url} answers {status}: {}", text.trim()),
    }
}
