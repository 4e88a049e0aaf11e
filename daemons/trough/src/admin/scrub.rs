//! Scrubbing on demand.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use reqwest::Method;
use trough_core::{
    NodeId, SegmentId,
    wire::scrub::{ScrubCounts, ScrubLine, ScrubRequest},
};

use super::{Master, number};

#[derive(Args, Debug)]
pub(super) struct ScrubArgs {
    /// These segments alone; else all
    #[arg(value_name = "SEGMENT")]
    segments: Vec<String>,
    /// Segments whose ids this regular expression matches
    #[arg(long, value_name = "REGEX")]
    matching: Option<String>,
    /// Copies of this worker alone
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Only report; repair nothing
    #[arg(long, conflicts_with = "repair_store")]
    check: bool,
    /// Read the canonical copies too, and compare them with the hashes that promotions recorded
    #[arg(long)]
    store: bool,
    /// Replace damaged or missing canonical copies by a worker's copy that has the recorded hash
    #[arg(long)]
    repair_store: bool,
    /// Bytes a second that each worker reads at most; 0: no limit [default: 100M]
    #[arg(long, value_name = "BYTES", value_parser = number)]
    bandwidth: Option<u64>,
}

pub(super) async fn run(master: &Master, args: ScrubArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    let segments: Result<Vec<SegmentId>, _> = args.segments.iter().map(|id| SegmentId::new(id)).collect();
    let segments = segments?;
    let request = ScrubRequest {
        segments: (!segments.is_empty()).then_some(segments),
        matching: args.matching,
        node: args.node.as_deref().map(NodeId::new).transpose()?,
        check: args.check,
        store: args.store || args.repair_store,
        repair_store: args.repair_store,
        bandwidth: args.bandwidth,
    };
    let mut answer = master.ask(Method::POST, "v1/scrub", Some(serde_json::to_vec(&request)?)).await?;
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} copies {elapsed} (Ctrl-C stops) {msg}")?;
    let bar = ProgressBar::new(0).with_style(style);
    let mut buffer = Vec::new();
    let counts = loop {
        let chunk = answer.chunk().await.context("scrubbing broke off")?;
        let Some(chunk) = chunk else {
            bail!("scrubbing was cut off: the sync master ended; what was repaired stays so")
        };
        buffer.extend_from_slice(&chunk);
        let mut end = None;
        while let Some(at) = buffer.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = buffer.drain(..=at).collect();
            match serde_json::from_slice(&line).context("read a line of the answer")? {
                ScrubLine::Progress(counts) => {
                    bar.set_length(counts.total);
                    bar.set_position(counts.done);
                    bar.set_message(format!("{} damaged", counts.damaged + counts.store_damaged));
                }
                ScrubLine::End(counts) => end = Some(counts),
                ScrubLine::Finding(_) if as_json => {}
                ScrubLine::Finding(finding) => bar.suspend(|| {
                    let segment = finding.segment.map_or("–".to_owned(), |s| s.to_string());
                    let whose = finding.node.map_or("the store".to_owned(), |n| n.to_string());
                    println!("{segment} on {whose}: {}: {}", finding.what.replace('_', " "), finding.detail);
                }),
            }
            if as_json {
                print!("{}", String::from_utf8_lossy(&line));
            }
        }
        if let Some(counts) = end {
            break counts;
        }
    };
    bar.finish_and_clear();
    if !as_json {
        println!("{}", text(&counts));
    }
    let open = counts.damaged - counts.repaired.min(counts.damaged) + counts.store_damaged
        - counts.store_repaired.min(counts.store_damaged)
        + counts.failed;
    Ok(if open > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn text(counts: &ScrubCounts) -> String {
    format!(
        "{} copies looked at ({}), {} of them without a recorded hash; {} skipped, as they are being written; {} damaged, {} \
         repaired; canonical copies: {} damaged or not as recorded, {} repaired; {} could not be read or asked",
        counts.done,
        HumanBytes(counts.bytes),
        counts.without_hash,
        counts.skipped,
        counts.damaged,
        counts.repaired,
        counts.store_damaged,
        counts.store_repaired,
        counts.failed
    )
}
