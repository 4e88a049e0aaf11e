//! What the engine's tests share.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod faulty;

use std::path::PathBuf;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use trough_core::{
    SegmentError, SegmentId, Value,
    wire::{Frame, FrameDecoder, QueryRequest, QueryStats},
};
use trough_engine::{Engine, EngineOptions, Format, Guard, Mode, SegmentFile};

pub struct Bench {
    pub engine: Engine,
    pub dir: TempDir,
}

pub fn bench() -> Bench {
    bench_with(EngineOptions::default())
}

pub fn bench_with(options: EngineOptions) -> Bench {
    Bench { engine: Engine::new(options), dir: tempfile::tempdir().expect("a directory") }
}

pub fn id(name: &str) -> SegmentId {
    SegmentId::new(name).expect("a sound id")
}

pub fn allow() -> Guard {
    Box::new(|| Ok(()))
}

impl Bench {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.sqlite"))
    }

    pub fn file(&self, name: &str, mode: Mode) -> SegmentFile {
        SegmentFile::new(id(name), self.path(name), mode)
    }

    pub fn hot(&self, name: &str) -> SegmentFile {
        self.file(name, Mode::Hot)
    }

    /// A segment made by plain SQLite.
    pub fn make(&self, name: &str, sql: &str) {
        let conn = rusqlite::Connection::open(self.path(name)).expect("opened");
        conn.execute_batch(sql).expect("made");
    }

    pub async fn read(&self, name: &str, sql: &str) -> Result<String, SegmentError> {
        self.read_as(name, Mode::Hot, sql).await
    }

    pub async fn read_as(&self, name: &str, mode: Mode, sql: &str) -> Result<String, SegmentError> {
        let stream = self.engine.legacy_read(self.file(name, mode), sql.into(), CancellationToken::new()).await?;
        Ok(String::from_utf8(stream.collect().await?).expect("JSON is UTF-8"))
    }

    pub async fn write(&self, name: &str, sql: &str) -> Result<(), SegmentError> {
        self.engine.write_script(self.hot(name), sql.into(), allow()).await
    }

    pub async fn query(&self, names: &[&str], request: QueryRequest) -> Answer {
        let files = names.iter().map(|name| Ok(self.hot(name))).collect();
        self.query_files(files, request).await
    }

    pub async fn query_files(&self, files: Vec<Result<SegmentFile, SegmentError>>, request: QueryRequest) -> Answer {
        let stream = self.engine.query(files, request, Format::MessagePack, CancellationToken::new()).await;
        Answer::decode(&stream.collect().await.expect("whole"))
    }
}

pub fn request(names: &[&str], map: &str, reduce: Option<&str>) -> QueryRequest {
    QueryRequest {
        segments: names.iter().map(|name| id(name)).collect(),
        map: map.into(),
        reduce: reduce.map(str::to_owned),
        params: Vec::new(),
        reduce_params: Vec::new(),
        deadline_ms: None,
        max_rows: None,
        max_bytes: None,
        bytewise: false,
        proxied: false,
    }
}

/// A decoded answer.
#[derive(Debug, Default)]
pub struct Answer {
    pub columns: Vec<String>,
    pub rows: Vec<(Option<u32>, Vec<Got>)>,
    pub errors: Vec<(u32, SegmentError)>,
    pub error: Option<SegmentError>,
    pub end: Option<QueryStats>,
}

/// A value as it travelled.
#[derive(Clone, Debug, PartialEq)]
pub enum Got {
    Value(Value),
    Invalid(Vec<u8>),
}

impl Answer {
    pub fn decode(bytes: &[u8]) -> Self {
        let mut answer = Self::default();
        let mut decoder = FrameDecoder::default();
        decoder.push(bytes);
        while let Some(frame) = decoder.next_frame().expect("frames") {
            match frame {
                Frame::Columns { names, .. } => answer.columns = names,
                Frame::Rows { segment, count, data } => {
                    let mut rest = data.as_ref();
                    for _ in 0..count {
                        let row = answer.columns.iter().map(|_| value(&mut rest)).collect();
                        answer.rows.push((segment, row));
                    }
                    assert!(rest.is_empty(), "bytes after the last row");
                }
                Frame::SegmentError { segment, error } => answer.errors.push((segment, error)),
                Frame::Progress { .. } => {}
                Frame::Error(error) => answer.error = Some(error),
                Frame::End(stats) => answer.end = Some(stats),
            }
        }
        assert_eq!(decoder.pending(), 0);
        answer
    }

    /// Rows of plain values.
    pub fn values(&self) -> Vec<Vec<Value>> {
        let plain = |v: &Got| match v {
            Got::Value(v) => v.clone(),
            Got::Invalid(bytes) => panic!("invalid text {bytes:?}"),
        };
        self.rows.iter().map(|(_, row)| row.iter().map(plain).collect()).collect()
    }
}

/// Reads a value by the MessagePack crate, which knows nothing of ours.
fn value(rest: &mut &[u8]) -> Got {
    use rmp::{Marker, decode};
    let marker = Marker::from_u8(rest[0]);
    Got::Value(match marker {
        Marker::Null => {
            decode::read_nil(rest).expect("nil");
            Value::Null
        }
        Marker::F64 => Value::Real(decode::read_f64(rest).expect("a real")),
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
            let n = decode::read_bin_len(rest).expect("a length") as usize;
            let (bytes, tail) = rest.split_at(n);
            *rest = tail;
            Value::Blob(bytes.to_vec())
        }
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
            let n = decode::read_str_len(rest).expect("a length") as usize;
            let (bytes, tail) = rest.split_at(n);
            *rest = tail;
            Value::Text(String::from_utf8(bytes.to_vec()).expect("UTF-8"))
        }
        Marker::Ext8 | Marker::Ext16 | Marker::Ext32 => {
            let meta = decode::read_ext_meta(rest).expect("an extension");
            assert_eq!(meta.typeid, 1);
            let (bytes, tail) = rest.split_at(meta.size as usize);
            *rest = tail;
            return Got::Invalid(bytes.to_vec());
        }
        _ => Value::Integer(decode::read_int(rest).expect("an integer")),
    })
}
