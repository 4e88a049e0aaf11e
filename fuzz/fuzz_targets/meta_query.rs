//! Any query on the embedded metadata server: parsed, compiled, run over a small database. A panic, an answer that is no JSON and
//! a query that cannot be cancelled are findings.

#![no_main]

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::Duration,
};

use libfuzzer_sys::{Corpus, fuzz_target};
use trough_meta::fuzzing::{STACK_BYTES, Sandbox};

/// After this a query is cancelled.
const LIMIT: Duration = Duration::from_millis(200);
/// Longer ones teach nothing that short ones do not.
const MOST_BYTES: usize = 4096;

/// What queries find: a database with rows of all kinds, and indexes.
const SETUP: &[&str] = &[
    r#"[1,[60,[[14,["test"]],"t"]]]"#,
    r#"[1,[75,[[15,["t"]],"n"]]]"#,
    r#"[1,[75,[[15,["t"]],"tags"],{"multi":true}]]"#,
    r#"[1,[140,[[15,["t"]]]]]"#,
    r#"[1,[56,[[15,["t"]],[2,[{"id":1,"n":1,"s":"a","tags":[2,["x","y"]]},{"id":"two","n":2.5,"s":"é","o":{"p":[2,[1,2]]}},
        {"id":[2,[1,"c"]],"n":null,"b":true,"when":{"$reql_type$":"TIME","epoch_time":1.5,"timezone":"+00:00"}}]]]]]"#,
];

fuzz_target!(|bytes: &[u8]| -> Corpus {
    if bytes.len() > MOST_BYTES {
        return Corpus::Reject;
    }
    let Some(bytes) = trough_fuzz::input::<&[u8]>(bytes) else { return Corpus::Reject };
    thread_local! {
        static THREAD: (SyncSender<Vec<u8>>, Receiver<Result<(), String>>) = start();
    }
    THREAD.with(|(asked, told)| {
        asked.send(bytes.to_vec()).expect("the thread runs");
        told.recv().expect("the query ended without a panic").unwrap_or_else(|finding| panic!("{finding}"));
    });
    Corpus::Keep
});

/// A thread with the stack that queries need, as the server's have.
fn start() -> (SyncSender<Vec<u8>>, Receiver<Result<(), String>>) {
    let (asked, queries) = sync_channel::<Vec<u8>>(1);
    let (tell, told) = sync_channel(1);
    std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let mut state = fresh();
            for query in queries {
                let began = std::time::Instant::now();
                let answers = state.0.run(&query, LIMIT);
                let finding = answers
                    .iter()
                    .map(|answer| String::from_utf8_lossy(answer))
                    .find(|answer| answer.contains("the answer is no JSON"))
                    .map(|answer| answer.into_owned())
                    .or_else(|| (began.elapsed() > LIMIT * 20).then(|| format!("ran for {:?}", began.elapsed())));
                // Each query finds the same, so that a finding can be had again.
                if state.0.is_written().expect("the writer runs") {
                    drop(state);
                    state = fresh();
                }
                if tell.send(finding.map_or(Ok(()), Err)).is_err() {
                    return;
                }
            }
        })
        .expect("a thread");
    (asked, told)
}

fn fresh() -> (Sandbox, tempfile::TempDir) {
    let memory = std::path::Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a directory");
    (Sandbox::open(dir.path(), SETUP).expect("the database"), dir)
}
