//! Plans: shown, saved, carried out.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::Context as _;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use reqwest::Method;
use serde_json::Value as Json;
use trough_sync::saved::{SavedPlan, Share};

use super::{Master, print_json, show};

/// The changes that are shown one by one.
const SHOWN: usize = 20;
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn make(master: &Master, output: Option<&Path>, as_json: bool) -> anyhow::Result<()> {
    let answer = master.ask(Method::GET, "v1/plan", None).await?;
    let bytes = answer.bytes().await.context("read the plan")?;
    let plan: SavedPlan = serde_json::from_slice(&bytes).context("read the plan")?;
    if let Some(path) = output {
        std::fs::write(path, &bytes).with_context(|| format!("write {}", path.display()))?;
    }
    match as_json {
        true => print_json(&serde_json::from_slice(&bytes)?),
        false => print!("{}", text(&plan, output)),
    }
    Ok(())
}

fn text(plan: &SavedPlan, output: Option<&Path>) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{:<20} {:<5} {:<9} {:>9} {:>11} {:>9} {:>11}",
        "worker", "tier", "state", "before", "", "after", ""
    );
    for Share { node, cold, alive, draining, before, before_bytes, after, after_bytes, .. } in &plan.workers {
        let state = if *draining {
            "draining"
        } else if *alive {
            "alive"
        } else {
            "away"
        };
        let _ = writeln!(
            text,
            "{:<20} {:<5} {state:<9} {before:>9} {:>11} {after:>9} {:>11}",
            node.as_str(),
            if *cold { "cold" } else { "hot" },
            HumanBytes(*before_bytes).to_string(),
            HumanBytes(*after_bytes).to_string()
        );
    }
    let repairs = plan.segments.iter().flat_map(|s| &s.puts).filter(|put| put.why == "repair").count();
    let _ = writeln!(
        text,
        "{} copies to make ({}): {repairs} because there are too few, {} to even out or empty workers; {} to drop",
        plan.copies,
        HumanBytes(plan.bytes),
        plan.copies - repairs as u64,
        plan.drops
    );
    let _ = writeln!(text, "no plan with this outcome copies less than {}", HumanBytes(plan.minimum));
    for change in plan.segments.iter().take(SHOWN) {
        let to: Vec<String> = change.puts.iter().map(|put| format!("{} ({})", put.node, put.why)).collect();
        let from: Vec<&str> = change.drops.iter().map(|node| node.as_str()).collect();
        let _ = writeln!(
            text,
            "  {} ({}): on {}{}{}",
            change.segment,
            HumanBytes(change.bytes),
            change.before.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", "),
            if to.is_empty() { String::new() } else { format!(", to {}", to.join(", ")) },
            if from.is_empty() { String::new() } else { format!(", then off {}", from.join(", ")) },
        );
    }
    if plan.segments.len() > SHOWN {
        let _ = writeln!(text, "  … and {} more segments", plan.segments.len() - SHOWN);
    }
    if let Some(path) = output {
        let _ = writeln!(
            text,
            "saved; `trough admin apply {}` carries it out, if nothing has changed by then",
            path.display()
        );
    }
    text
}

pub(super) async fn apply(master: &Master, file: &Path, wait: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    let plan = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let answer = master.ask(Method::POST, "v1/plan", Some(plan)).await?;
    let answer: Json = answer.json().await.context("read the answer")?;
    let mut applying = answer["applying"].clone();
    if wait {
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} copies made or dropped {elapsed}")?;
        let bar = ProgressBar::new(0).with_style(style);
        while applying["state"] == "running" {
            let count = |name: &str| applying[name].as_u64().unwrap_or(0);
            bar.set_length(count("copies") + count("drops"));
            bar.set_position(count("copied") + count("dropped"));
            tokio::time::sleep(LOOK).await;
            applying = master.json(Method::GET, "v1/controls", None).await?["applying"].clone();
            // The view is made anew with each reconciliation, so right after the start it may show none.
            if applying.is_null() {
                anyhow::bail!(
                    "another sync server has become master: apply the plan again, what is done is left alone"
                );
            }
        }
        bar.finish_and_clear();
    }
    match as_json {
        true => print_json(&applying),
        false => println!("{}", show::progress(&applying)),
    }
    Ok(if applying["state"] == "stopped" { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
