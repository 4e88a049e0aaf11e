//! What runs and what is kept: `trough.activity()`, `trough.connections()`, `trough.caches()`, `trough.reset()`.

use pgrx::{datum::TimestampWithTimeZone, iter::TableIterator, name, pg_extern, pg_sys};

use crate::{activity, cluster, pg, table};

/// `pg_read_all_stats`
const READ_ALL_STATS: u32 = 3375;

fn user_name(user: pg_sys::Oid) -> Option<String> {
    // SAFETY: null for a role that is gone.
    unsafe {
        let name = pg_sys::GetUserNameFromId(user, true);
        (!name.is_null()).then(|| pg::text(name))
    }
}

fn server_name(server: pg_sys::Oid) -> Option<String> {
    // SAFETY: null for a server that is gone.
    unsafe {
        let foreign = pg_sys::GetForeignServerExtended(server, pg_sys::FSV_MISSING_OK as u16);
        (!foreign.is_null()).then(|| pg::text((*foreign).servername))
    }
}

/// `trough.activity()`
#[pg_extern(volatile, sql = false)]
#[allow(clippy::type_complexity)]
fn trough_activity() -> TableIterator<
    'static,
    (
        name!(pid, i32),
        name!(datname, Option<String>),
        name!(usename, Option<String>),
        name!(server, Option<String>),
        name!(relation, Option<String>),
        name!(state, Option<String>),
        name!(started, Option<TimestampWithTimeZone>),
        name!(segments, Option<i64>),
        name!(done, Option<i64>),
        name!(failed, Option<i64>),
        name!(missing, Option<i64>),
        name!(workers, Option<i64>),
        name!(requests, Option<i64>),
        name!(retries, Option<i64>),
        name!(rows, Option<i64>),
        name!(bytes, Option<i64>),
        name!(sql, Option<String>),
    ),
> {
    // SAFETY: look-ups of the current user and of names.
    let (user, all) = unsafe {
        let user = pg_sys::GetUserId();
        (user, pg_sys::has_privs_of_role(user, READ_ALL_STATS.into()))
    };
    let rows = activity::all().into_iter().map(|one| {
        // SAFETY: has_privs_of_role answers for any OID, get_database_name gives null for a database that is gone.
        let (mine, database) = unsafe {
            let database = pg_sys::get_database_name(one.database);
            (all || pg_sys::has_privs_of_role(user, one.user), (!database.is_null()).then(|| pg::text(database)))
        };
        let count = |n: usize| mine.then_some(one.counters[n] as i64);
        (
            one.pid,
            database,
            user_name(one.user),
            mine.then(|| one.server.clone()),
            mine.then(|| one.relation.clone()),
            mine.then(|| one.state.to_owned()),
            TimestampWithTimeZone::try_from(one.started).ok().filter(|_| mine),
            count(0),
            count(1),
            count(2),
            count(3),
            count(4),
            count(5),
            count(6),
            count(7),
            count(8),
            mine.then(|| one.sql.clone()),
        )
    });
    TableIterator::new(rows.collect::<Vec<_>>())
}

/// `trough.connections()`
#[pg_extern(volatile, sql = false)]
#[allow(clippy::type_complexity)]
fn trough_connections() -> TableIterator<
    'static,
    (
        name!(server, Option<String>),
        name!(usename, Option<String>),
        name!(node, String),
        name!(url, String),
        name!(tier, String),
        name!(alive, bool),
        name!(avoided, bool),
        name!(load, f64),
        name!(in_flight, i64),
        name!(requests, i64),
        name!(failures, i64),
    ),
> {
    let mut rows = Vec::new();
    for kept in cluster::kept() {
        for (endpoint, alive) in kept.cluster.discovery.known().workers {
            rows.push((
                server_name(kept.server),
                user_name(kept.user),
                endpoint.node.id.to_string(),
                endpoint.url.to_string(),
                if endpoint.cold { "cold" } else { "hot" }.to_owned(),
                alive,
                endpoint.node.has_failed(),
                f64::from(endpoint.load),
                i64::from(endpoint.node.in_flight()),
                endpoint.node.requests() as i64,
                endpoint.node.failures() as i64,
            ));
        }
    }
    rows.sort_by(|a, b| (&a.0, &a.1, &a.2, &a.3).cmp(&(&b.0, &b.1, &b.2, &b.3)));
    TableIterator::new(rows)
}

/// `trough.caches()`
#[pg_extern(volatile, sql = false)]
#[allow(clippy::type_complexity)]
fn trough_caches() -> TableIterator<
    'static,
    (
        name!(server, Option<String>),
        name!(usename, Option<String>),
        name!(since, Option<TimestampWithTimeZone>),
        name!(connected, bool),
        name!(workers, i64),
        name!(followed, Option<i64>),
        name!(followed_age, Option<f64>),
        name!(looked_up, i64),
        name!(listings, i64),
        name!(scans, i64),
    ),
> {
    let mut rows: Vec<_> = cluster::kept()
        .into_iter()
        .map(|kept| {
            let known = kept.cluster.discovery.known();
            (
                server_name(kept.server),
                user_name(kept.user),
                TimestampWithTimeZone::try_from(kept.cluster.since).ok(),
                known.connected,
                known.workers.len() as i64,
                known.followed.map(|(segments, _)| segments as i64),
                known.followed.map(|(_, since)| since.elapsed().as_secs_f64()),
                known.looked_up as i64,
                known.listings as i64,
                kept.cluster.scans.get() as i64,
            )
        })
        .collect();
    rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    TableIterator::new(rows)
}

/// `trough.reset(server)`
#[pg_extern(volatile, sql = false)]
fn trough_reset(server: Option<&str>) -> i64 {
    let oid = server.map(|name| {
        let name = pg::cstring(name);
        // SAFETY: raises if there is no such server.
        unsafe { pg_sys::get_foreign_server_oid(name.as_ptr(), false) }
    });
    if oid.is_none() {
        table::forget_patterns();
    }
    cluster::forget(oid) as i64
}
