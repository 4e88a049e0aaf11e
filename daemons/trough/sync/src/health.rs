//! The cluster's health in one sentence, for people. Pure.

use serde::Serialize;

use crate::view::{ClusterView, WorkerLine};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is to be done.
    Ok,
    /// It should come right by itself; look again.
    Warn,
    /// Somebody must look.
    Bad,
}

/// The sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// How bad it is.
    pub level: Level,
    /// What is the matter, the worst first.
    pub sentence: String,
}

/// Judges what the last reconciliation saw, with the workers as they are now. `orphans`: write locks whose holders are not
/// there.
pub fn judge(view: &ClusterView, workers: &[WorkerLine], orphans: usize) -> Health {
    let s = &view.summary;
    let mut level = Level::Ok;
    let mut parts: Vec<String> = Vec::new();
    let mut say = |how: Level, what: String| {
        level = level.max(how);
        parts.push(what);
    };
    if view.epoch == 0 && view.error.is_none() {
        return Health { level: Level::Warn, sentence: "The cluster has not been looked at yet.".to_owned() };
    }
    if view.error.is_some() {
        say(Level::Bad, "the last reconciliation failed".to_owned());
    }
    let alive = workers.iter().filter(|w| w.presence == "alive").count();
    if alive == 0 {
        say(Level::Bad, "no worker is alive".to_owned());
    }
    if s.unserved > 0 {
        say(Level::Bad, format!("{} not served by any worker", are(s.unserved, "segment")));
    }
    if view.missing_count > 0 {
        say(Level::Bad, format!("{} in no canonical file", are(view.missing_count, "segment with copies")));
    }
    if orphans > 0 {
        say(Level::Bad, format!("{} held by a worker that is away", are(orphans as u64, "write lock")));
    }
    let away: Vec<&str> = workers.iter().filter(|w| w.presence != "alive").map(|w| w.node.as_str()).collect();
    match away.as_slice() {
        _ if alive == 0 => {}
        [] => {}
        [one] => say(Level::Warn, format!("worker {one} is away")),
        [first, ..] => say(Level::Warn, format!("{} workers are away, {first} among them", count(away.len() as u64))),
    }
    let short = s.under_replicated.saturating_sub(s.unserved);
    if short > 0 {
        say(Level::Warn, format!("{} short of copies", are(short, "segment")));
    }
    if view.stale_count > 0 {
        say(Level::Warn, format!("{} older than the canonical file", are(view.stale_count, "copy")));
    }
    let sentence = if parts.is_empty() {
        let draining = workers.iter().filter(|w| w.draining).count() as u64;
        let more = if draining > 0 { format!("; {} being emptied", are(draining, "worker")) } else { String::new() };
        match s.segments {
            0 => format!("The store holds no segment yet; {} alive{more}.", are(alive as u64, "worker")),
            1 => format!("The one segment has all its copies; {} alive{more}.", are(alive as u64, "worker")),
            n => {
                format!("All {} segments have all their copies; {} alive{more}.", count(n), are(alive as u64, "worker"))
            }
        }
    } else {
        let text = parts.join("; ");
        let mut letters = text.chars();
        let first = letters.next().map(|c| c.to_uppercase().collect::<String>()).unwrap_or_default();
        format!("{first}{}.", letters.as_str())
    };
    Health { level, sentence }
}

/// `1 segment is`, `2 segments are`.
fn are(n: u64, what: &str) -> String {
    let many = match what.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => match what.split_once(' ') {
            Some(("segment", rest)) => format!("segments {rest}"),
            _ => format!("{what}s"),
        },
    };
    if n == 1 { format!("1 {what} is") } else { format!("{} {many} are", count(n)) }
}

/// `1,000,000`.
fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use trough_core::NodeId;

    use super::*;

    fn worker(name: &str, presence: &'static str) -> WorkerLine {
        WorkerLine { presence, ..WorkerLine::new(NodeId::new(name).expect("an id"), false, 1) }
    }

    fn view(change: impl FnOnce(&mut ClusterView)) -> ClusterView {
        let mut view = ClusterView { epoch: 1, ..ClusterView::default() };
        view.summary.segments = 1_234_567;
        change(&mut view);
        view
    }

    #[test]
    fn the_worst_comes_first() {
        let (two, one) = ([worker("a", "alive"), worker("b", "alive")], [worker("a", "alive"), worker("b", "grace")]);
        let say = |view: &ClusterView, workers: &[WorkerLine], orphans| {
            let health = judge(view, workers, orphans);
            (health.level, health.sentence)
        };
        let ok = view(|_| {});
        let all = "All 1,234,567 segments have all their copies; 2 workers are alive.".to_owned();
        assert_eq!(say(&ok, &two, 0), (Level::Ok, all));
        assert_eq!(say(&ok, &one, 0), (Level::Warn, "Worker b is away.".to_owned()));
        assert_eq!(
            say(&ok, &one, 1),
            (Level::Bad, "1 write lock is held by a worker that is away; worker b is away.".to_owned())
        );
        let short = view(|v| (v.summary.under_replicated, v.summary.unserved, v.stale_count) = (1_003, 2, 1));
        let text = "2 segments are not served by any worker; 1,001 segments are short of copies; 1 copy is older than the \
                    canonical file.";
        assert_eq!(say(&short, &two, 0), (Level::Bad, text.to_owned()));
        let lost = view(|v| (v.missing_count, v.error) = (2, Some("x".into())));
        let text =
            "The last reconciliation failed; no worker is alive; 2 segments with copies are in no canonical file.";
        assert_eq!(say(&lost, &[], 0), (Level::Bad, text.to_owned()));
        assert_eq!(judge(&ClusterView::default(), &two, 0).level, Level::Warn);
        assert_eq!(count(1), "1");
        assert_eq!(count(123_456), "123,456");
    }
}
