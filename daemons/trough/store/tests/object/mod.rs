//! The suite over an S3-compatible server, whose address TROUGH_TEST_S3 gives; `tests/run.sh` starts one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use opendal::{Operator, services::S3};
use trough_core::SegmentId;
use trough_store::{Store, StoreError, StoreOptions};

use crate::suite::{self, Fixture};

/// The server's address; none, loudly, where there is none. In CI that is a failure.
fn endpoint() -> Option<String> {
    match std::env::var("TROUGH_TEST_S3") {
        Ok(url) if !url.is_empty() => Some(url),
        _ => {
            assert!(
                std::env::var_os("CI").is_none(),
                "TROUGH_TEST_S3 is not set: in CI an object store must be tested"
            );
            eprintln!("SKIPPED: no S3-compatible server to test with; run tests/run.sh store, which starts one");
            None
        }
    }
}

fn wait<T>(answer: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(answer))
}

/// A bucket of its own.
struct Bucket {
    operator: Operator,
    address: String,
    store: Arc<dyn Store>,
}

fn options(endpoint: &str) -> StoreOptions {
    let backend =
        [("endpoint", endpoint), ("region", "us-east-1"), ("access_key_id", "test"), ("secret_access_key", "test")];
    let backend: BTreeMap<_, _> = backend.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    StoreOptions { backend, ..StoreOptions::default() }
}

impl Bucket {
    fn new(endpoint: &str) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("bucket-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let address = format!("{endpoint}/{name}");
        let made = wait(reqwest::Client::new().put(&address).send()).expect("an answer");
        assert!(made.status().is_success(), "{made:?}");
        let builder = S3::default().bucket(&name).endpoint(endpoint).region("us-east-1");
        let operator = Operator::new(builder.access_key_id("test").secret_access_key("test")).expect("valid").finish();
        let store = trough_store::open_with(&format!("s3://{name}/some/prefix"), &options(endpoint)).expect("a URL");
        Self { operator, address, store }
    }
}

impl Fixture for Bucket {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }
    fn put_raw(&self, path: &str, contents: &[u8]) {
        wait(self.operator.write(&format!("some/prefix/{path}"), contents.to_vec())).expect("put");
    }
    fn names_beside(&self, segment: &SegmentId) -> Vec<String> {
        let path = self.store.path_of(segment);
        let (dir, _) = path.rsplit_once('/').expect("below the root");
        let found = wait(self.operator.list(&format!("{}/", dir.trim_start_matches('/')))).expect("listed");
        let names = found.into_iter().filter(|e| e.metadata().is_file()).map(|e| e.name().to_owned());
        let mut names: Vec<_> = names.filter(|name| dir != "/some/prefix" || *name == segment.file_name()).collect();
        names.sort();
        names
    }
    /// Every listing is a whole one.
    fn tick(&self) {}
    fn unmount(&self) {
        wait(self.operator.remove_all("/")).expect("emptied");
        let gone = wait(reqwest::Client::new().delete(&self.address).send()).expect("an answer");
        assert!(gone.status().is_success(), "{gone:?}");
    }
    fn keeps_mtime(&self) -> bool {
        false
    }
    fn leaves_temporaries(&self) -> bool {
        false
    }
    fn versions(&self) -> u8 {
        5
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn object_store_conforms() {
    let Some(endpoint) = endpoint() else { return };
    suite::run(|| Bucket::new(&endpoint)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn large_objects_go_up_in_parts_and_come_down_the_same() {
    let Some(endpoint) = endpoint() else { return };
    let fixture = Bucket::new(&endpoint);
    let (store, scratch) = (fixture.store(), suite::Scratch::new());
    let contents: Vec<u8> = (0..20_000_000_u32).map(|i| (i % 241) as u8).collect();
    let mut with = suite::options(1_000);
    with.sha256 = Some("00".repeat(32));
    let error =
        store.publish(&scratch.file(&contents), &suite::segment("large-1"), with).await.expect_err("wrong hash");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(store.stat(&suite::segment("large-1")).await.expect_err("nothing was seen of it").is_not_found());
    let entry = store
        .publish(&scratch.file(&contents), &suite::segment("large-1"), suite::options(1_000))
        .await
        .expect("published");
    let dest = scratch.path();
    store.get(&entry.path, &dest, trough_store::GetOptions::default()).await.expect("fetched");
    assert!(std::fs::read(&dest).expect("there") == contents);
}

/// Nothing listens there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_service_that_is_down_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address");
    let store = trough_store::open_with("s3://bucket/x", &options(&format!("http://{free}"))).expect("a URL");
    for error in [store.check().await.expect_err("check"), store.list_sorted().await.expect_err("list")] {
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    }
    for (url, says) in
        [("s3:///x", "names no bucket"), ("azblob:///x", "names no container"), ("ftp://a/b", "no backend")]
    {
        let error = trough_store::open(url).expect_err("refused").to_string();
        assert!(error.contains(says), "{error}");
    }
}
