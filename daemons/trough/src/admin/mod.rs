//! `trough admin`: what people do to a running cluster. Everything but backup and restore is asked of the sync master.

mod backup;
mod drain;
mod master;
mod plan;
mod scrub;
mod show;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use master::Master;
use reqwest::Method;
use serde_json::{Map, Value as Json, json};

/// The long help.
pub(crate) const LONG: &str = "\
What people do to a running cluster: empty a worker, pause placement, set limits, look for damaged copies, look at what would \
move before it does, save the metadata and bring it back. docs/OPERATIONS.md says what each does.

    trough admin -u rethinkdb://host/trough_configuration status
    TROUGH_TOKEN=… trough admin drain worker-7 --wait

The sync master is found by the metadata. Exit status: 0 if all went well, 1 if something failed or was refused or found damaged, \
2 if the command line is wrong.";

/// Options of `trough admin`.
#[derive(Args, Debug)]
pub struct AdminArgs {
    #[command(flatten)]
    to: ToArgs,
    #[command(subcommand)]
    what: What,
}

/// Which cluster, and how its answers are shown.
#[derive(Args, Debug)]
struct ToArgs {
    /// The cluster's metadata: rethinkdb://[USER[:PASSWORD]@]HOST[:PORT][,HOST…]/DATABASE
    #[arg(
        short = 'u',
        long = "url",
        value_name = "URL",
        env = "TROUGH_URL",
        default_value = "rethinkdb://localhost/trough_configuration",
        hide_env_values = true,
        global = true
    )]
    url: String,
    /// Bearer token with the role admin
    #[arg(long, env = "TROUGH_TOKEN", hide_env_values = true, value_name = "TOKEN", global = true)]
    token: Option<String>,
    /// Authorities that the daemons' certificates are checked against (PEM)
    #[arg(long, env = "TROUGH_TLS_CA", value_name = "FILE", global = true)]
    tls_ca: Option<PathBuf>,
    /// Print what the sync master answers, as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The workers, what is paused, limited, drained or being applied
    Status,
    /// Empty a worker: its segments are copied elsewhere, then dropped
    Drain(drain::DrainArgs),
    /// Pause placement: nothing is assigned, moved or dropped until it is resumed
    Pause {
        /// Why, for whoever looks later
        #[arg(value_name = "REASON")]
        reason: Option<String>,
    },
    /// Resume placement
    Resume,
    /// Set limits for the whole cluster, or show them
    Throttle {
        /// NAME=NUMBER, or NAME= for what the settings say; units k, M, G, Ki, Mi, Gi
        #[arg(value_name = "NAME=VALUE")]
        set: Vec<String>,
        /// Back to what the settings say, all of them
        #[arg(long, conflicts_with = "set")]
        reset: bool,
    },
    /// Compare copies with their records and with the store; repair them
    Scrub(scrub::ScrubArgs),
    /// Show what would be copied and dropped, and why
    Plan {
        /// Save the plan, for `apply`
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Carry out a saved plan, if nothing has changed since
    Apply {
        /// The plan
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Wait until it is done
        #[arg(long)]
        wait: bool,
    },
    /// Save the metadata in a file
    Backup {
        /// Where to; made new or replaced whole
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Write a saved metadata into an empty database; the sync servers must be stopped
    Restore {
        /// The backup
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Replace what the database holds
        #[arg(long)]
        overwrite: bool,
    },
}

/// Runs one command.
///
/// # Errors
/// What the sync master or the metadata says.
pub async fn run(args: AdminArgs) -> anyhow::Result<ExitCode> {
    let master = Master::new(&args.to.url, args.to.token.clone(), args.to.tls_ca.as_deref())?;
    let json = args.to.json;
    match args.what {
        What::Status => {
            let cluster = master.json(Method::GET, "v1/cluster", None).await?;
            if json { print_json(&cluster) } else { show::status(&cluster) }
        }
        What::Drain(args) => return drain::run(&master, args, json).await,
        What::Pause { reason } => {
            let controls = master.json(Method::POST, "v1/pause", Some(json!({ "reason": reason }))).await?;
            if json { print_json(&controls) } else { show::controls(&controls) }
        }
        What::Resume => {
            let controls = master.json(Method::POST, "v1/resume", None).await?;
            if json { print_json(&controls) } else { show::controls(&controls) }
        }
        What::Throttle { set, reset } => {
            let current = master.json(Method::GET, "v1/controls", None).await?;
            let changes = changes(&set, reset, &current)?;
            let controls = match changes.is_empty() {
                true => current,
                false => master.json(Method::POST, "v1/throttle", Some(Json::Object(changes))).await?,
            };
            if json { print_json(&controls) } else { show::controls(&controls) }
        }
        What::Scrub(args) => return scrub::run(&master, args, json).await,
        What::Plan { output } => plan::make(&master, output.as_deref(), json).await?,
        What::Apply { file, wait } => return plan::apply(&master, &file, wait, json).await,
        What::Backup { file } => backup::save(master.catalog(), &file, json).await?,
        What::Restore { file, overwrite } => backup::restore(master.catalog(), &file, overwrite, json).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print_json(document: &Json) {
    println!("{}", serde_json::to_string_pretty(document).unwrap_or_default());
}

fn changes(set: &[String], reset: bool, current: &Json) -> anyhow::Result<Map<String, Json>> {
    let mut changes = Map::new();
    if reset {
        for (name, _) in current["throttles"].as_object().into_iter().flatten() {
            changes.insert(name.clone(), Json::Null);
        }
    }
    for one in set {
        let Some((name, value)) = one.split_once('=') else {
            bail!("'{one}' is no NAME=VALUE, as in copy_bandwidth=50M");
        };
        let value = match value.trim() {
            "" => Json::Null,
            text => json!(number(text).with_context(|| format!("the value of {name}"))?),
        };
        changes.insert(name.trim().to_lowercase(), value);
    }
    Ok(changes)
}

/// A number of bytes or things, with a unit or none.
fn number(text: &str) -> anyhow::Result<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &text[digits.len()..] {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        unit => bail!("'{unit}' is no unit: k, M, G, Ki, Mi or Gi"),
    };
    let number: u64 = digits.replace('_', "").parse().with_context(|| format!("'{text}' is no number"))?;
    number.checked_mul(factor).with_context(|| format!("'{text}' is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_with_units() {
        assert_eq!(number("50M").ok(), Some(50_000_000));
        assert_eq!(number("2Gi").ok(), Some(2 << 30));
        assert_eq!(number("100_000").ok(), Some(100_000));
        for bad in ["", "M", "-1", "1T", "99999999999999999999", "20000000000G"] {
            assert!(number(bad).is_err(), "{bad}");
        }
        let current = json!({"throttles": {"a": {}, "b": {}}});
        let set = changes(&["A=7k".into(), "b=".into()], false, &current).expect("fits");
        assert_eq!(Json::Object(set), json!({"a": 7000, "b": null}));
        assert_eq!(changes(&[], true, &current).expect("fits").len(), 2);
        assert!(changes(&["a".into()], false, &current).is_err());
    }
}
