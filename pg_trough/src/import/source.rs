//! What is imported: a registered schema, which a sync server describes, or a live segment, which a worker describes.

use pgrx::PgSqlErrorCode;
use trough_client::{QueryError, QueryTemplate, SegmentSet};
use trough_core::{
    ErrorCode, SchemaId, SegmentId, Value,
    describe::{DESCRIBE, DOUBTFUL, SchemaDescription, TableDescription},
};

use crate::{
    cluster::{self, Cluster},
    decode::{Item, Reader},
    errors::{Failure, OrRaise},
    plandata::Wanted,
    runtime,
    table::{Limits, OnFault},
};

/// What stands before a segment's name in the statement.
const SEGMENT: &str = "segment:";

/// What the statement names.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A registered schema.
    Schema(SchemaId),
    /// A segment that is served now, hot or cold.
    Segment(SegmentId),
}

impl Source {
    /// From the remote schema's name.
    ///
    /// # Errors
    /// No schema or segment can have the name.
    pub(super) fn parse(name: &str) -> Result<Self, Failure> {
        let invalid = |e: trough_core::IdError| {
            Failure::new(PgSqlErrorCode::ERRCODE_INVALID_SCHEMA_NAME, e.to_string())
                .hint("The remote schema is a registered schema, or \"segment:NAME\" for the tables of a live segment.")
        };
        match name.strip_prefix(SEGMENT) {
            Some(segment) => SegmentId::new(segment).map(Self::Segment).map_err(invalid),
            None => SchemaId::new(name).map(Self::Schema).map_err(invalid),
        }
    }

    /// Whether what is described holds for all segments of the tables: one segment tells nothing of the others.
    pub(super) fn holds_for_all(&self) -> bool {
        matches!(self, Self::Schema(_))
    }

    /// Its tables and views.
    pub(super) fn describe(&self, cluster: &Cluster) -> SchemaDescription {
        match self {
            Self::Schema(id) => registered(cluster, id),
            Self::Segment(id) => live(cluster, id),
        }
    }
}

fn registered(cluster: &Cluster, id: &SchemaId) -> SchemaDescription {
    let client = cluster.manager();
    let schema = id.clone();
    let described = runtime::block_on(async move { client.describe_schema(&schema).await });
    described
        .map_err(|e| match e.code() {
            // The only thing that can be wrong with the request.
            ErrorCode::BadRequest => Failure::new(
                PgSqlErrorCode::ERRCODE_FDW_SCHEMA_NOT_FOUND,
                format!("server \"{}\" has no schema \"{id}\"", cluster.server),
            )
            .hint(format!(
                "SELECT id FROM trough.schemas('{}') lists them; \"segment:NAME\" is a live segment.",
                cluster.server
            )),
            _ => cluster::write_failure(&cluster.server, &e),
        })
        .or_raise()
}

fn live(cluster: &Cluster, id: &SegmentId) -> SchemaDescription {
    let failed = |e: QueryError| match e.code() {
        ErrorCode::UnknownSegment => Failure::new(
            PgSqlErrorCode::ERRCODE_FDW_SCHEMA_NOT_FOUND,
            format!("server \"{}\" has no segment \"{id}\"", cluster.server),
        )
        .hint(format!("SELECT segment FROM trough.segments('{}') lists them.", cluster.server)),
        _ => cluster::query_failure(&cluster.server, &e),
    };
    let mut description = SchemaDescription::default();
    let describe = |name: Value| texts(cluster, id, DESCRIBE, vec![name]);
    for json in describe(Value::Null).map_err(failed).or_raise() {
        description.add(table(&json));
    }
    for name in texts(cluster, id, DOUBTFUL, Vec::new()).map_err(failed).or_raise() {
        match describe(Value::Text(name.clone())) {
            Ok(found) => found.iter().for_each(|json| description.add(table(json))),
            Err(QueryError::Segment { error, .. })
                if matches!(error.code, ErrorCode::BadSql | ErrorCode::NoSuchTable | ErrorCode::NoSuchColumn) =>
            {
                description.add_broken(name, error.message);
            }
            Err(other) => failed(other).raise(),
        }
    }
    description
}

fn table(json: &str) -> TableDescription {
    serde_json::from_str(json)
        .map_err(|e| Failure::new(PgSqlErrorCode::ERRCODE_FDW_ERROR, format!("a segment's description: {e}")))
        .or_raise()
}

/// The texts in the first column of a query of one segment.
fn texts(cluster: &Cluster, id: &SegmentId, sql: &str, params: Vec<Value>) -> Result<Vec<String>, QueryError> {
    let template = QueryTemplate { map: sql.to_owned(), params, ..QueryTemplate::default() };
    let limits = Limits { on_missing: OnFault::Error, on_failed: OnFault::Error, ..Limits::default() };
    let mut rows = cluster.ask("import", SegmentSet::Ids(vec![id.clone()]), template, Wanted::All, limits, true);
    let mut texts = Vec::new();
    while let Some(batch) = rows.try_next() {
        let batch = batch?;
        let mut reader = Reader::new(&batch.data, 0);
        for _ in 0..batch.count {
            if let Some(Item::Text(bytes) | Item::BadText(bytes)) = reader.next() {
                texts.push(String::from_utf8_lossy(bytes).into_owned());
            }
        }
    }
    Ok(texts)
}
