//! The settings files that people have, and the mistakes that they make.

use super::*;

fn error(text: &str) -> String {
    Settings::from_yaml(text).expect_err("must be refused").to_string()
}

#[test]
fn defaults_are_the_python_troughs() {
    let s = Settings::from_yaml("").expect("defaults");
    assert_eq!((s.read_port, s.write_port, s.sync_server_port, s.sync_local_port), (6444, 6222, 6111, 6112));
    assert_eq!(s.store, "hdfs://localhost:8020/tmp/trough");
    assert_eq!(s.minimum_assignments.constant(), Some(2));
    assert!(s.listen.is_loopback());
    assert_eq!(s.anonymous, Some(Role::Admin));
    assert!(s.storage_in_bytes > 0);
    assert_eq!(s.lease, Duration::from_secs(45));
    assert_eq!(s.rethinkdb_url(), "rethinkdb://localhost/trough_configuration");
}

#[test]
fn existing_files_are_read_as_they_are() {
    let s = Settings::from_yaml(
        "HDFS_PATH: /ait/prod/trough/\nHDFS_HOST: namenode\nHDFS_PORT: 6000\nMINIMUM_ASSIGNMENTS: \"1\"\n\
         HOSTNAME: w1\nSEGMENT_INITIALIZATION_SQL: /etc/trough/initialize.sql\nSYNC_LOOP_TIMING: 1\n\
         LOCAL_DATA: /data\nREAD_THREADS: '10'\nSENTRY_DSN:\nRETHINKDB_HOSTS:\n  - a\n  - b:28016\nEXTERNAL_IP: 127.0.0.1\n\
         STORAGE_IN_BYTES: 16*1024**3\n",
    )
    .expect("valid");
    assert_eq!(s.store, "hdfs://namenode:6000/ait/prod/trough");
    assert_eq!(s.minimum_assignments.constant(), Some(1));
    assert_eq!(s.read_threads, 10);
    assert_eq!(s.storage_in_bytes, 16 << 30);
    assert_eq!(s.rethinkdb_url(), "rethinkdb://a,b:28016/trough_configuration");
    assert_eq!(s.lease, Duration::from_secs(4));
    assert_eq!(s.base_url(6444), "http://127.0.0.1:6444/");
}

#[test]
fn a_typo_names_the_nearest_key() {
    let e = error("READPORT: 1");
    assert!(e.contains("READPORT") && e.contains("did you mean READ_PORT?"), "{e}");
    let e = error("MINIMUM_ASIGNMENTS: 1");
    assert!(e.contains("MINIMUM_ASSIGNMENTS"), "{e}");
    assert!(error("local_data: /x").contains("LOCAL_DATA"));
}

#[test]
fn a_lambda_is_refused_with_its_equivalent() {
    let e = error("MINIMUM_ASSIGNMENTS: \"lambda segment_id: 1 if segment_id.startswith('a') else 2\"");
    assert!(e.contains("MINIMUM_ASSIGNMENTS: \"segment_id.startsWith('a') ? 1 : 2\""), "{e}");
    let s = Settings::from_yaml("COLD_STORE_SEGMENT: \"int(segment_id) < 1000\"").expect("valid");
    let cold = |id: &str| s.cold_store_segment.for_segment(&trough_core::SegmentId::new(id).expect("id"));
    assert_eq!((cold("999"), cold("1000")), (Ok(true), Ok(false)));
}

#[test]
fn the_environment_is_over_the_file() {
    let pairs = [("TROUGH_READ_PORT", "7000"), ("TROUGH_RETHINKDB_HOSTS", "x:1,y:2"), ("TROUGH_STORE", "/srv/store")];
    let env = pairs.map(|(a, b)| (a.to_owned(), b.to_owned()));
    let s = Settings::from_parts("READ_PORT: 1\nWRITE_PORT: 2", env).expect("valid");
    assert_eq!((s.read_port, s.write_port), (7000, 2));
    assert_eq!(s.rethinkdb_hosts, ["x:1", "y:2"]);
    assert_eq!(s.store, "file:///srv/store");
    // A colon in an expression makes no map of it.
    for (key, value, expected) in [
        ("TROUGH_MINIMUM_ASSIGNMENTS", "segment_id == 'x' ? 1 : 2", Ok(1)),
        ("TROUGH_MINIMUM_ASSIGNMENTS", "lambda s: 1 if s == 'x' else 2", Err("segment_id == 'x' ? 1 : 2")),
    ] {
        let x = trough_core::SegmentId::new("x").expect("valid");
        match (Settings::from_parts("", [(key.to_owned(), value.to_owned())]), expected) {
            (Ok(s), Ok(copies)) => assert_eq!(s.minimum_assignments.for_segment(&x), Ok(copies)),
            (Err(e), Err(advice)) => assert!(e.to_string().contains(advice), "{e}"),
            (other, _) => panic!("{value}: {other:?}"),
        }
    }
}

#[test]
fn the_store_has_options() {
    let s = Settings::from_yaml(
        "HDFS_HOST: service\nHDFS_PORT: 0\nHDFS_PATH: /a\nHDFS_REPLICATION: 2\nHDFS_BLOCK_SIZE: 64 MiB\nSTORE_TIMEOUT: 5\n\
         STORE_OPTIONS: {dfs.ha.namenodes.service: \"a,b\", dfs.client.socket-timeout: 1000, x: true}\n",
    )
    .expect("valid");
    assert_eq!((s.store.as_str(), s.store_timeout), ("hdfs://service/a", Duration::from_secs(5)));
    let options: Vec<_> = s.store_options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(
        options,
        [
            ("dfs.blocksize", "67108864"),
            ("dfs.client.socket-timeout", "1000"),
            ("dfs.ha.namenodes.service", "a,b"),
            ("dfs.replication", "2"),
            ("x", "true")
        ]
    );
    let s = Settings::from_yaml("HDFS_CLIENT: hdrs").expect("valid");
    assert_eq!(s.store_options["hdfs.client"], "hdrs");
    assert!(Settings::from_yaml("HDFS_CLIENT: native").expect("valid").store_options.is_empty());
    assert!(Settings::from_yaml("HDFS_CLIENT: java").expect_err("unknown").to_string().contains("native or hdrs"));
    let env = [("TROUGH_STORE_OPTIONS".to_owned(), "region = here, endpoint=http://x:1/?a=b".to_owned())];
    let s = Settings::from_parts("STORE: s3://bucket/a", env).expect("valid");
    assert_eq!(s.store_options["region"], "here");
    assert_eq!(s.store_options["endpoint"], "http://x:1/?a=b");
    assert!(error("STORE_OPTIONS: nonsense").contains("key=value"));
    assert!(error("STORE_OPTIONS: {a: [1]}").contains("map of texts"));
    assert!(error("STORE_TIMEOUT: 0").contains("STORE_TIMEOUT"));
}

#[test]
fn mistakes_are_named() {
    assert!(error("READ_PORT: 70000").contains("READ_PORT: must be at most 65535"));
    assert!(error("READ_PORT: many").contains("READ_PORT: \"many\" is no number"));
    assert!(error("RETHINKDB_HOSTS: [\"user:pw@h\"]").contains("is no host"));
    assert!(error("RETHINKDB_HOSTS: rethinkdb://h/d").contains("is no host"));
    assert!(error("RETHINKDB_DATABASE: d?tls=off").contains("is no database's name"));
    assert!(error("- a").contains("KEY: value"));
    assert!(error("A: [").starts_with("settings"));
    assert!(error("LISTEN: 0.0.0.0").contains("TOKENS"));
    assert!(error("TOKENS: [{token: x, role: king}]").contains("king"));
    assert!(error("TLS_CERT: a").contains("TLS_KEY"));
    assert!(error("STORE: nonsense").contains("STORE"));
    assert!(error("HOSTNAME: a/b").contains("HOSTNAME"));
    assert!(error("MINIMUM_ASSIGNMENTS: 3").contains("MAXIMUM_ASSIGNMENTS"));
    let e = Settings::load(Some(Path::new("/nonexistent/settings.yml"))).expect_err("missing").to_string();
    assert!(e.contains("/nonexistent/settings.yml"), "{e}");
}

#[test]
fn tokens_open_the_listener() {
    let s = Settings::from_yaml("TOKENS: [{token: secret, role: admin}, {token: r, role: read}]").expect("valid");
    assert!(s.listen.is_unspecified());
    assert_eq!(s.anonymous, None);
    assert_eq!(s.token.as_deref(), Some("secret"));
    assert!(!format!("{s:?}").contains("\"r\""));
}

#[test]
fn a_cold_worker_reads_the_mount_that_it_was_given() {
    let mode = |text: &str| Settings::from_yaml(text).expect("valid").cold_mode;
    assert_eq!(mode("COLD_STORAGE_PATH: /mnt/{prefix}/{segment_id}.sqlite"), ColdMode::Mount);
    assert_eq!(mode("COLD_STORAGE_PATH: /mnt/{segment_id}.sqlite\nCOLD_MODE: direct"), ColdMode::Direct);
    assert_eq!(mode("COLD_MODE: mount"), ColdMode::Mount);
    let e = error("COLD_MODE: nfs");
    assert!(e.contains("COLD_MODE") && e.contains("mount or direct"), "{e}");
    assert!(error("COLD_READ_TIMEOUT: 0").contains("more than 0"));
}

#[test]
fn the_environment_names_files_with_secrets() {
    let dir = tempfile::tempdir().expect("directory");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let read = |pairs: &[(&str, &str)]| {
        Settings::from_parts("", pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    };
    let options = file("options", "{region: eu-central-1}\n");
    // It must not be taken for a number.
    let token = file("token", "12345678e9\n");
    let s = read(&[("TROUGH_STORE_OPTIONS_FILE", &options), ("TROUGH_TOKEN_FILE", &token)]).expect("valid");
    assert_eq!((s.store_options.len(), s.token.as_deref()), (1, Some("12345678e9")));
    assert_eq!(read(&[("TROUGH_TOKEN", "007")]).expect("valid").token.as_deref(), Some("007"));
    let e = read(&[("TROUGH_TOKEN_FILE", "/nowhere")]).expect_err("no such file").to_string();
    assert!(e.contains("TROUGH_TOKEN_FILE names /nowhere"), "{e}");
    let e = read(&[("TROUGH_TOKEN_FILE", &token), ("TROUGH_TOKEN", "x")]).expect_err("twice").to_string();
    assert!(e.contains("TROUGH_TOKEN_FILE") && e.contains("given twice"), "{e}");
}

#[test]
fn times_are_bounded() {
    for key in ["ELECTION_CYCLE", "SYNC_LOOP_TIMING", "LEASE", "SHUTDOWN_GRACE", "QUERY_TIMEOUT", "STORE_TIMEOUT"] {
        let e = error(&format!("{key}: 1e19"));
        assert!(e.contains(key) && e.contains("a century"), "{e}");
    }
    assert!(Settings::from_yaml("LEASE: 3155760000").is_ok());
    for key in ["ELECTION_CYCLE", "SYNC_LOOP_TIMING", "LEASE"] {
        let e = error(&format!("{key}: 0"));
        assert!(e.contains(key), "{e}");
    }
}
