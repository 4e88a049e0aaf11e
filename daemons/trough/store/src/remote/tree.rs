//! How such a store is listed: reading a directory tells its subdirectories' mtimes, so looking at ten million segments
//! whose directories have not changed reads the directories above them only.

use std::time::Duration;

use async_trait::async_trait;

use super::{FileSystem, Inner};
use crate::{
    Collected, StoreError, crashsafe,
    listing::{ATTEMPTS, Columns, Reading, Stamp, Tree},
    paths,
};

impl<F: FileSystem> Inner<F> {
    /// A directory that is gone is none; a root that is gone is an error.
    async fn unless_gone<T>(&self, relative: &str, result: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match result {
            Err(StoreError::NotFound { .. }) if relative.is_empty() => {
                self.check("list").await?;
                let why = "the store's directory went and came back".to_owned();
                Err(StoreError::Unavailable { operation: "list", path: self.full(relative), why })
            }
            Err(StoreError::NotFound { .. }) => {
                self.check("list").await?;
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    async fn read_directory(&self, path: &str, mut stamp: Stamp) -> Result<Reading, StoreError> {
        let mut left = ATTEMPTS;
        loop {
            let mut columns = Columns::default();
            let mut add = |status: super::Status| {
                if !columns.wants(&status.name) {
                    return Ok(());
                }
                if status.directory {
                    columns.directory(&status.name, Some(Stamp::from_ms(status.mtime_ms)));
                    return Ok(());
                }
                let added = columns.file(&status.name, status.bytes, status.mtime_ms);
                added.map_err(|e| StoreError::from_io("list", path, e))
            };
            self.fs.list("list", path, &mut add).await?;
            let after = Stamp::from_ms(self.fs.stat("list", path).await?.mtime_ms);
            left -= 1;
            if after == stamp || left == 0 {
                return Ok(Reading { columns, steady: after == stamp, stamp: after });
            }
            stamp = after;
        }
    }
}

#[async_trait]
impl<F: FileSystem> Tree for Inner<F> {
    fn url(&self) -> &str {
        &self.url
    }

    fn full(&self, relative: &str) -> String {
        paths::join(&self.root, relative)
    }

    async fn stamp(&self, relative: &str) -> Result<Option<Stamp>, StoreError> {
        if relative.is_empty() {
            self.check("list").await?;
        }
        let status = self.fs.stat("list", &self.full(relative)).await;
        Ok(self.unless_gone(relative, status).await?.map(|status| Stamp::from_ms(status.mtime_ms)))
    }

    async fn read(&self, relative: &str, stamp: Stamp) -> Result<Option<Reading>, StoreError> {
        let reading = self.read_directory(&self.full(relative), stamp).await;
        self.unless_gone(relative, reading).await
    }

    /// Judged by the later of both times: a publication sets the mtime, and what was created keeps its access time.
    async fn sweep(&self, relative: &str, older_than: Duration) -> Result<Collected, StoreError> {
        let directory = self.full(relative);
        let mut found = Vec::new();
        let mut add = |status: super::Status| {
            if !status.directory && crashsafe::is_temporary(&status.name) {
                found.push(status);
            }
            Ok(())
        };
        match self.fs.list("collect garbage in", &directory, &mut add).await {
            Err(StoreError::NotFound { .. }) => return Ok(Collected::default()),
            other => other?,
        }
        let mut collected = Collected::default();
        for status in found {
            let age = crashsafe::now_ms().saturating_sub(status.mtime_ms.max(status.accessed_ms));
            if u128::try_from(age).unwrap_or(0) < older_than.as_millis() {
                collected.kept += 1;
            } else if self.fs.remove("collect garbage", &paths::join(&directory, &status.name)).await? {
                collected.removed += 1;
                collected.bytes += status.bytes;
            }
        }
        Ok(collected)
    }
}
