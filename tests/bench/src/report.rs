//! The table of results.

use std::time::Duration;

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};

/// Rows as they come; printed at the end.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<[String; 6]>,
}

impl Report {
    /// Adds a line: what was measured, ours, the peer's, their ratio, the target, and whether it is met.
    pub(crate) fn row(
        &mut self,
        what: &str,
        ours: String,
        peer: String,
        ratio: String,
        target: &str,
        met: Option<bool>,
    ) {
        let verdict = match met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        eprintln!("{what}: {ours} | {peer} | {ratio} | {target} {verdict}");
        self.rows.push([what.into(), ours, peer, ratio, target.into(), verdict.into()]);
    }

    /// Adds a line of two times, whose ratio ours/peer shall be at most `limit`.
    pub(crate) fn times(&mut self, what: &str, ours: Duration, peer_name: &str, peer: Duration, limit: f64) {
        let ratio = ours.as_secs_f64() / peer.as_secs_f64();
        self.row(
            what,
            ms(ours),
            format!("{} {peer_name}", ms(peer)),
            format!("{ratio:.2} x"),
            &format!("<= {limit} x"),
            Some(ratio <= limit),
        );
    }

    pub(crate) fn print(&self) {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED).set_header(["what", "ours", "peer", "ratio", "target", ""]);
        for row in &self.rows {
            table.add_row(row);
        }
        println!("{table}");
    }
}

/// A time for people.
pub(crate) fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.3} ms") } else { format!("{ms:.0} ms") }
}

/// The median of some times.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The time below which a share of all lies; `times` must be sorted and not empty.
pub(crate) fn percentile(times: &[Duration], share: f64) -> Duration {
    times[((times.len() - 1) as f64 * share) as usize]
}
