//! The suite over an S3-compatible server, whose address TROUGH_TEST_S3 gives, and over Azurite, whose address
//! TROUGH_TEST_AZURE gives; `tests/run.sh` starts them, Azurite where npm can install it.

use std::{
    collections::BTreeMap,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use opendal::Operator;
use trough_core::SegmentId;
use trough_store::{Store, StoreError, StoreOptions};

use crate::suite::{self, Fixture};

/// An object store to test with.
#[derive(Clone)]
enum Service {
    /// By its endpoint.
    S3(String),
    /// By its endpoint, with the account in its path.
    Azure(String),
    /// By its endpoint.
    Gcs(String),
}

/// Azurite's account and its key, which everybody knows.
const AZURE_ACCOUNT: &str = "devstoreaccount1";
const AZURE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

fn address(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|address| !address.is_empty())
}

/// The S3-compatible server; none, loudly, where there is none. In CI that is a failure.
fn s3() -> Option<Service> {
    let found = address("TROUGH_TEST_S3");
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "TROUGH_TEST_S3 is not set: in CI an object store must be tested");
        eprintln!("SKIPPED: no S3-compatible server to test with; run tests/run.sh store, which starts one");
    }
    found.map(Service::S3)
}

/// Azurite; none, loudly, where there is none.
fn azure() -> Option<Service> {
    let found = address("TROUGH_TEST_AZURE");
    if found.is_none() {
        eprintln!(
            "SKIPPED: azblob:// is not tested, as TROUGH_TEST_AZURE is not set; tests/lib/azure.py starts Azurite"
        );
    }
    found.map(Service::Azure)
}

/// fake-gcs-server; none, loudly, where there is none.
fn gcs() -> Option<Service> {
    let found = address("TROUGH_TEST_GCS");
    if found.is_none() {
        eprintln!(
            "SKIPPED: gs:// is not tested, as TROUGH_TEST_GCS is not set; tests/lib/gcs.py starts fake-gcs-server"
        );
    }
    found.map(Service::Gcs)
}

impl Service {
    fn scheme(&self) -> &'static str {
        match self {
            Self::S3(_) => "s3",
            Self::Azure(_) => "azblob",
            Self::Gcs(_) => "gs",
        }
    }

    /// What OpenDAL is told of it.
    fn settings(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::S3(endpoint) => vec![
                ("endpoint", endpoint.as_str()),
                ("region", "us-east-1"),
                ("access_key_id", "test"),
                ("secret_access_key", "test"),
            ],
            Self::Azure(endpoint) => {
                vec![("endpoint", endpoint.as_str()), ("account_name", AZURE_ACCOUNT), ("account_key", AZURE_KEY)]
            }
            Self::Gcs(endpoint) => vec![
                ("endpoint", endpoint.as_str()),
                ("allow_anonymous", "true"),
                ("disable_vm_metadata", "true"),
                ("disable_config_load", "true"),
            ],
        }
    }

    fn options(&self) -> StoreOptions {
        let backend: BTreeMap<_, _> = self.settings().into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        StoreOptions { backend, ..StoreOptions::default() }
    }

    /// Makes the bucket or container, or deletes an empty one.
    fn bucket(&self, name: &str, made: bool) {
        match self {
            Self::S3(endpoint) | Self::Gcs(endpoint) => {
                let client = reqwest::Client::new();
                let request = match self {
                    Self::Gcs(_) if made => {
                        let bucket = format!("{{\"name\": \"{name}\"}}");
                        client.post(format!("{endpoint}/storage/v1/b?project=test")).body(bucket)
                    }
                    Self::Gcs(_) => client.delete(format!("{endpoint}/storage/v1/b/{name}")),
                    _ if made => client.put(format!("{endpoint}/{name}")),
                    _ => client.delete(format!("{endpoint}/{name}")),
                };
                let answer = wait(request.send()).expect("an answer");
                assert!(answer.status().is_success(), "{answer:?}");
            }
            Self::Azure(endpoint) => {
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/lib/azure.py");
                let what = if made { "make" } else { "drop" };
                let done = Command::new("python3").args([script, what, endpoint, name]).output().expect("started");
                assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            }
        }
    }
}

fn wait<T>(answer: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(answer))
}

/// A bucket of its own.
struct Bucket {
    operator: Operator,
    service: Service,
    name: String,
    store: Arc<dyn Store>,
}

impl Bucket {
    fn new(service: &Service) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("bucket-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        service.bucket(&name, true);
        let place = if matches!(service, Service::Azure(_)) { "container" } else { "bucket" };
        let settings = service.settings().into_iter().chain([(place, name.as_str())]);
        let settings = settings.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let scheme = if matches!(service, Service::Gcs(_)) { "gcs" } else { service.scheme() };
        let operator = Operator::via_iter(scheme, settings).expect("valid");
        let url = format!("{}://{name}/some/prefix", service.scheme());
        let store = trough_store::open_with(&url, &service.options()).expect("a URL");
        Self { operator, service: service.clone(), name, store }
    }

    /// Whether names may have few signs only.
    fn plain_names(&self) -> bool {
        matches!(self.service, Service::Gcs(_))
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
        self.service.bucket(&self.name, false);
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
    /// fake-gcs-server has no uploads in parts by the XML interface, as OpenDAL makes them.
    fn takes_parts(&self) -> bool {
        !matches!(self.service, Service::Gcs(_))
    }
    fn wide_id(&self) -> &'static str {
        if self.plain_names() { "~wide" } else { "é中😀x" }
    }
    fn odd_id(&self) -> &'static str {
        if self.plain_names() { "seg(ment)-1" } else { "seg:ment-1" }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn object_store_conforms() {
    let Some(service) = s3() else { return };
    suite::run(|| Bucket::new(&service)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn azure_conforms() {
    let Some(service) = azure() else { return };
    suite::run(|| Bucket::new(&service)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn gcs_conforms() {
    let Some(service) = gcs() else { return };
    suite::run(|| Bucket::new(&service)).await;
    let store = Bucket::new(&service).store();
    for refused in ["seg:ment-1", "a b-1", "é-1", "100%-1"] {
        assert!(matches!(store.allows(&suite::segment(refused)), Err(StoreError::InvalidPath { .. })), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn large_objects_go_up_in_parts_and_come_down_the_same() {
    for service in [s3(), azure()].into_iter().flatten() {
        large_objects_go_up_and_down(&service).await;
    }
}

async fn large_objects_go_up_and_down(service: &Service) {
    let fixture = Bucket::new(service);
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
    // The next one replaces it.
    let with = suite::options(trough_store::promotion_mtime(0, Some(&entry)));
    let next = store.publish(&scratch.file(&contents[1..]), &suite::segment("large-1"), with).await.expect("replaced");
    assert!(next.bytes + 1 == entry.bytes && next.mtime_ms > entry.mtime_ms, "{next:?}");
}

/// Nothing listens there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_service_that_is_down_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address");
    let store =
        trough_store::open_with("s3://bucket/x", &Service::S3(format!("http://{free}")).options()).expect("a URL");
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
