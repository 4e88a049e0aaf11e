//! Placement of millions of segments: time and peak memory, in a process of its own.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::{Args, report::Report};

pub(crate) fn run(args: &Args, report: &mut Report) -> Result<()> {
    let mut sizes = vec![(10_000_000_u64, 5.0, 1.5)];
    if args.large {
        sizes.push((100_000_000, 60.0, 4.0));
    }
    for (segments, seconds, gib) in sizes {
        let output = Command::new("cargo")
            .args([
                "run",
                "--release",
                "--quiet",
                "-p",
                "trough-core",
                "--example",
                "placement_bench",
                "--",
                &segments.to_string(),
                "100",
                "2",
            ])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        // The first plan's line: "from scratch:  3.20 s, peak memory 259000 kB, …"; the others plan again over its result.
        let line = text.lines().find(|line| line.contains("from scratch:")).unwrap_or_default();
        let figure = |unit: &str| {
            let words: Vec<&str> = line.split_whitespace().map(|word| word.trim_end_matches(',')).collect();
            let at = words.iter().position(|word| *word == unit).unwrap_or(0);
            words.get(at.wrapping_sub(1)).and_then(|n| n.parse::<f64>().ok()).unwrap_or(f64::NAN)
        };
        let (time, memory) = (figure("s"), figure("kB") / f64::from(1 << 20));
        report.row(
            &format!("placement of {segments} segments x 2 on 100 workers"),
            format!("{time:.1} s, {memory:.2} GiB"),
            String::new(),
            String::new(),
            &format!("<= {seconds} s, <= {gib} GiB"),
            Some(time <= seconds && memory <= gib),
        );
    }
    Ok(())
}
