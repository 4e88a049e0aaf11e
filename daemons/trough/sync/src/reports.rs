//! What the workers say of themselves (`/status`): copies, promotions, broken copies. Asked for when somebody wants it, at
//! most once in [`FRESH`], however many look.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use trough_core::{NodeId, SegmentId};

use crate::context::Context;

/// How old an answer may be.
const FRESH: Duration = Duration::from_millis(1_800);
/// How long a worker may take.
const LIMIT: Duration = Duration::from_secs(2);
/// Workers asked at the same time.
const AT_ONCE: usize = 32;

/// A copy or a promotion under way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Flight {
    pub(crate) segment: Option<SegmentId>,
    #[serde(default)]
    pub(crate) bytes: u64,
    #[serde(default)]
    pub(crate) done: u64,
    #[serde(default)]
    pub(crate) seconds: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stage: Option<String>,
}

/// A copy that failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) segment: SegmentId,
    pub(crate) error: String,
    #[serde(default)]
    pub(crate) attempts: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Copies {
    #[serde(default)]
    pub(crate) waiting: u64,
    #[serde(default)]
    pub(crate) in_flight: Vec<Flight>,
    #[serde(default)]
    pub(crate) failed: Vec<Failed>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Promotions {
    #[serde(default)]
    pub(crate) count: u64,
    #[serde(default)]
    pub(crate) in_flight: Vec<Flight>,
}

/// A broken copy: one that is still in its place, or one that was kept aside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Broken {
    pub(crate) segment: SegmentId,
    #[serde(alias = "error")]
    pub(crate) reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
}

/// One worker's answer.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Said {
    #[serde(default)]
    pub(crate) copies: Copies,
    #[serde(default)]
    pub(crate) promotions: Promotions,
    #[serde(default)]
    pub(crate) broken: Vec<Broken>,
    #[serde(default)]
    pub(crate) quarantine: Vec<Broken>,
}

/// All answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct All {
    pub(crate) said: Vec<(NodeId, Said)>,
    /// Workers that are alive and did not answer in time.
    pub(crate) silent: Vec<NodeId>,
}

/// The last answers.
#[derive(Debug, Default)]
pub(crate) struct Reports(tokio::sync::Mutex<Option<(Instant, Arc<All>)>>);

impl Reports {
    /// What all living workers say; whoever asks while another does waits for the same answer.
    pub(crate) async fn get(&self, context: &Context) -> trough_client::catalog::Result<Arc<All>> {
        let mut last = self.0.lock().await;
        if let Some((at, all)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(all.clone());
        }
        let nodes = context.nodes().await?;
        // A Python worker has no status.
        let asked = nodes.iter().filter(|n| n.alive && n.service.manage_url.is_some());
        let asked: Vec<_> =
            asked.filter_map(|n| Some((n.node()?.clone(), format!("{}status", context.manage_url(n)?)))).collect();
        let requests = asked.into_iter().map(|(node, url)| async move {
            let request = async { context.http.get(url).send().await?.error_for_status()?.json::<Said>().await };
            (node, tokio::time::timeout(LIMIT, request).await.ok().and_then(Result::ok))
        });
        let mut all = All::default();
        let mut answers = futures::stream::iter(requests).buffered(AT_ONCE);
        while let Some((node, said)) = answers.next().await {
            match said {
                Some(said) => all.said.push((node, said)),
                None => all.silent.push(node),
            }
        }
        let all = Arc::new(all);
        *last = Some((Instant::now(), all.clone()));
        Ok(all)
    }
}
