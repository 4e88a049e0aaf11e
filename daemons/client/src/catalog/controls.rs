//! What an operator has set for the whole cluster: the pause of placement, throttles. One document, followed by every node, so
//! that a change costs one event a node and nothing costs anything per cycle.

use serde_json::{Value as Json, json};
use trough_core::records::{Controls, Time};
use trough_reql::r;

use super::{Catalog, Change, Result, Rows, TROUGH, majority, of_ours};

const CONTROLS: &str = "controls";

impl Catalog {
    /// What is set now.
    ///
    /// # Errors
    /// [`super::CatalogError`].
    pub async fn controls(&self) -> Result<Controls> {
        let row = self.read_one("read the controls", &majority(TROUGH).get(CONTROLS)).await;
        Ok(of_ours(row)?.unwrap_or_default())
    }

    /// Pauses placement, or resumes it with none; what is set now. A pause that stands keeps its beginning.
    ///
    /// # Errors
    /// [`super::CatalogError::Fenced`] if a newer epoch was raised.
    pub async fn set_paused(&self, pause: Option<Option<&str>>, epoch: u64) -> Result<Controls> {
        let paused = match pause {
            None => Json::Null,
            Some(reason) => {
                let stands = self.controls().await?.paused.map(|p| p.since.epoch_time);
                let since = match stands {
                    Some(since) => since,
                    None => self.server_now().await?,
                };
                json!({"since": Time::from_epoch(since), "reason": reason})
            }
        };
        self.set("pause or resume placement", json!({ "paused": paused }), epoch).await
    }

    /// Sets throttles: those that `changes` names, to a number or, with null, back to what the settings say. What is set now.
    ///
    /// # Errors
    /// [`super::CatalogError::Fenced`] if a newer epoch was raised.
    pub async fn set_throttles(&self, changes: serde_json::Map<String, Json>, epoch: u64) -> Result<Controls> {
        self.set("set throttles", json!({ "throttles": changes }), epoch).await
    }

    /// Puts `changes` over the document; what it holds besides, a later version's fields too, stays.
    async fn set(&self, what: &'static str, mut changes: Json, epoch: u64) -> Result<Controls> {
        self.refuse_if_deposed(what, epoch).await?;
        changes["epoch"] = json!(epoch);
        let empty = json!({"id": CONTROLS, "paused": null, "throttles": {}});
        let statement = r::table(TROUGH)
            .get(CONTROLS)
            .replace(|old| old.default(r::expr(empty)).merge(r::expr(changes)))
            .durability("hard");
        self.write(what, &statement).await?;
        self.controls().await
    }

    /// Follows what is set, beginning with it as it stands.
    ///
    /// # Errors
    /// [`super::CatalogError`].
    pub async fn controls_feed(&self) -> Result<Rows<Change<Controls>>> {
        self.follow("follow the controls", r::table(TROUGH).get(CONTROLS)).await
    }
}
