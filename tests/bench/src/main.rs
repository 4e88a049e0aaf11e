//! The benchmarks, each beside its peer in the same run on the same data, as a table of ratios.
//!
//! They need a cluster and a PostgreSQL with the demo's data; `tests/bench/run.sh` sets both up.

mod cold;
mod copies;
mod copy;
mod endpoint;
mod filter;
mod group_by;
mod hadoop;
mod http;
mod join;
mod listing;
mod lookup;
mod master;
mod metadata;
mod placement;
mod points;
mod report;
mod scan;
mod shell;
mod top;
mod writes;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser;
use tokio_postgres::NoTls;

use report::Report;

/// Where the systems under test are.
#[derive(Parser, Debug)]
pub(crate) struct Args {
    /// Connection string of the PostgreSQL that holds the demo's database.
    #[arg(long, default_value = "host=127.0.0.1 port=25432 user=postgres dbname=demo")]
    pg: String,
    /// The directory of the running `trough dev`, whose workers' files the in-process peers read.
    #[arg(long)]
    cluster: PathBuf,
    /// Run only the benchmarks whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Where `tests/lib/hadoop.py` keeps a running HDFS.
    #[arg(long)]
    hadoop: Option<PathBuf>,
    /// Files that are made in HDFS to be listed.
    #[arg(long, default_value_t = 1_000_000)]
    listing_hdfs: usize,
    /// Segments of `--only master`.
    #[arg(long, default_value_t = 1_000_000)]
    segments: usize,
    /// Segments that the shell lists.
    #[arg(long, default_value_t = 500_000)]
    shell_segments: usize,
    /// Also place 100,000,000 segments (about a minute and 4 GiB).
    #[arg(long)]
    large: bool,
}

impl Args {
    pub(crate) async fn postgres(&self) -> Result<tokio_postgres::Client> {
        let (client, connection) = tokio_postgres::connect(&self.pg, NoTls).await.context("connect to PostgreSQL")?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub(crate) fn hadoop(&self) -> Result<hadoop::Hadoop> {
        hadoop::Hadoop::at(self.hadoop.as_deref().context("give --hadoop")?)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let mut report = Report::default();
    let wanted = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    if wanted("points") {
        points::run(&args, &mut report).await.context("point selects")?;
    }
    if wanted("group-by") {
        group_by::run(&args, &mut report).await.context("group by")?;
    }
    if wanted("scan") {
        scan::run(&args, &mut report).await.context("full scan")?;
    }
    if wanted("filter") {
        filter::run(&args, &mut report).await.context("filtered scan")?;
    }
    if wanted("small") {
        group_by::small(&args, &mut report).await.context("group by over small segments")?;
    }
    if wanted("copy") {
        copy::run(&args, &mut report).await.context("copy")?;
    }
    if wanted("cold") {
        cold::run(&mut report).context("cold tier")?;
    }
    if wanted("join") {
        join::run(&args, &mut report).await.context("join")?;
    }
    if wanted("top") {
        top::run(&args, &mut report).await.context("order by and limit")?;
    }
    if wanted("lookup") {
        lookup::run(&args, &mut report).await.context("lookup")?;
    }
    if wanted("writes") {
        writes::run(&args, &mut report).await.context("durable writes")?;
    }
    if wanted("shell") {
        shell::run(&args, &mut report).await.context("shell")?;
    }
    if wanted("placement") {
        placement::run(&args, &mut report).context("placement")?;
    }
    if wanted("meta") {
        metadata::run(&mut report).await.context("metadata server")?;
    }
    if wanted("copies") {
        copies::run(&args, &mut report).await.context("copies from HDFS")?;
    }
    if wanted("listing") {
        listing::run(&args, &mut report).await.context("listing")?;
    }
    if args.only.as_deref() == Some("master") {
        master::run(&args, &mut report).await.context("sync master")?;
    }
    report.print();
    Ok(())
}
