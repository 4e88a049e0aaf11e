//! The segments that statements run on.

use anyhow::{Context as _, bail};
use tokio::sync::mpsc;
use trough_client::{Discovery, DiscoveryError, SegmentPattern, discovery::Served};
use trough_core::SegmentId;

/// Of more segments than this the pattern alone is kept.
const MOST_KEPT: usize = 100_000;
/// Segments that are found and asked at a time where the pattern is kept.
const PAGE: usize = 5_000;

/// What is connected.
#[derive(Clone, Debug)]
pub(super) enum Connected {
    /// These, in this order.
    Ids(Vec<SegmentId>),
    /// All that match: when they were counted, so many.
    Matching { text: String, pattern: SegmentPattern, count: u64 },
}

impl Default for Connected {
    fn default() -> Self {
        Self::Ids(Vec::new())
    }
}

/// A pattern as typed.
pub(super) fn pattern(text: Option<&str>) -> anyhow::Result<SegmentPattern> {
    match text {
        None => Ok(SegmentPattern::All),
        Some(text) => SegmentPattern::regex(text).with_context(|| format!("the pattern {text:?}")),
    }
}

impl Connected {
    /// All served segments that match now.
    pub(super) async fn matching(discovery: &Discovery, text: &str) -> anyhow::Result<Self> {
        let pattern = pattern(Some(text))?;
        let mut scan = discovery.scan(pattern.clone()).await?;
        let (mut ids, mut count) = (Vec::new(), 0u64);
        while let Some(page) = scan.next_page(PAGE).await? {
            count += page.len() as u64;
            if count as usize > MOST_KEPT {
                ids = Vec::new();
                continue;
            }
            // The first query then looks nothing up.
            discovery.remember(&page).await?;
            ids.extend(page.into_iter().map(|served| served.segment));
        }
        match count as usize {
            0 => bail!("no segment matches {text:?}"),
            n if n <= MOST_KEPT => Ok(Self::Ids(ids)),
            _ => Ok(Self::Matching { text: text.to_owned(), pattern, count }),
        }
    }

    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Ids(ids) => ids.len() as u64,
            Self::Matching { count, .. } => *count,
        }
    }

    /// The segment, if it is one.
    pub(super) fn only(&self) -> Option<&SegmentId> {
        match self {
            Self::Ids(ids) => match ids.as_slice() {
                [one] => Some(one),
                _ => None,
            },
            Self::Matching { .. } => None,
        }
    }

    /// The first of them, if they are known by name.
    pub(super) fn first(&self) -> Option<&SegmentId> {
        match self {
            Self::Ids(ids) => ids.first(),
            Self::Matching { .. } => None,
        }
    }

    /// Takes a segment out that is no more.
    pub(super) fn forget(&mut self, segment: &SegmentId) {
        if let Self::Ids(ids) = self {
            ids.retain(|id| id != segment);
        }
    }

    /// The segments, some at a time; where they can be read is known to discovery. The next are found while the last are asked.
    pub(super) fn pages(&self, discovery: &Discovery) -> mpsc::Receiver<Result<Vec<SegmentId>, DiscoveryError>> {
        let (sender, receiver) = mpsc::channel(1);
        match self.clone() {
            Self::Ids(ids) => {
                // The channel has room for it.
                let _ = sender.try_send(Ok(ids));
            }
            Self::Matching { pattern, .. } => {
                let discovery = discovery.clone();
                tokio::spawn(async move {
                    if let Err(error) = send_pages(&discovery, pattern, &sender).await {
                        let _ = sender.send(Err(error)).await;
                    }
                });
            }
        }
        receiver
    }
}

async fn send_pages(
    discovery: &Discovery,
    pattern: SegmentPattern,
    sender: &mpsc::Sender<Result<Vec<SegmentId>, DiscoveryError>>,
) -> Result<(), DiscoveryError> {
    let mut scan = discovery.scan(pattern).await?;
    let mut page: Vec<Served> = Vec::new();
    loop {
        let more = scan.next_page(PAGE - page.len()).await?;
        let over = more.is_none();
        page.extend(more.into_iter().flatten());
        if page.len() >= PAGE || (over && !page.is_empty()) {
            discovery.remember(&page).await?;
            let ids = std::mem::take(&mut page).into_iter().map(|served| served.segment).collect();
            if sender.send(Ok(ids)).await.is_err() {
                return Ok(());
            }
        }
        if over {
            return Ok(());
        }
    }
}
