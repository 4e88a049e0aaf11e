//! Emptying a worker.

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::{Master, print_json, show};

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub(super) struct DrainArgs {
    /// The worker
    #[arg(value_name = "NODE")]
    node: String,
    /// Take it back: the worker gets its share again
    #[arg(long)]
    undo: bool,
    /// Do it even if segments get too few copies or have no room elsewhere
    #[arg(long, conflicts_with = "undo")]
    force: bool,
    /// Wait until the worker holds nothing more
    #[arg(long, conflicts_with = "undo")]
    wait: bool,
}

pub(super) async fn run(master: &Master, args: DrainArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    let node = &args.node;
    let body = json!({"node": node, "drain": !args.undo, "force": args.force});
    let answer = master.json(Method::POST, "v1/drain", Some(body)).await?;
    if as_json {
        print_json(&answer);
    } else if args.undo {
        println!("{node} is not drained any more");
    } else {
        println!(
            "{node} is drained: {} segments ({}) are copied to others and dropped here",
            answer["segments"].as_u64().unwrap_or(0),
            show::bytes(&answer["bytes"])
        );
    }
    if let Some(locks @ 1..) = answer["locks"].as_u64().filter(|_| !args.undo) {
        eprintln!("{node} holds {locks} write locks: those segments stay until they are promoted");
    }
    if args.wait {
        wait(master, node).await?;
        if !as_json {
            println!("{node} holds nothing more; it can be stopped");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn wait(master: &Master, node: &str) -> anyhow::Result<()> {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} segments are gone {elapsed} {msg}")?;
    let bar = ProgressBar::new(0).with_style(style);
    loop {
        let cluster = master.json(Method::GET, "v1/cluster", None).await?;
        let workers = cluster["cluster"]["workers"].as_array().cloned().unwrap_or_default();
        let Some(worker) = workers.into_iter().find(|w| w["node"] == node) else { break };
        if !cluster["controls"]["paused"].is_null() {
            bail!("placement is paused, so nothing moves: `trough admin resume`, and wait again");
        }
        if worker["draining"] != true && worker["presence"] == "alive" && bar.length() > Some(0) {
            bail!("{node} is not drained any more");
        }
        let count = |name: &str| worker[name].as_u64().unwrap_or(0);
        let left = count("assigned").max(if worker["presence"] == "alive" { count("segments") } else { 0 });
        if left == 0 {
            break;
        }
        bar.set_length(bar.length().unwrap_or(0).max(left));
        bar.set_position(bar.length().unwrap_or(left) - left);
        if let Json::Number(n) = &cluster["cluster"]["summary"]["in_flight"] {
            bar.set_message(format!("{n} copies in flight"));
        }
        tokio::time::sleep(LOOK).await;
    }
    bar.finish_and_clear();
    Ok(())
}
