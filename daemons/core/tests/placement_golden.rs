//! Golden vectors: the text files in `tests/placement`, each a cluster's story step by step, with what placement makes
//! of it. `UPDATE_GOLDEN=1 cargo test -p trough-core --test placement_golden` rewrites what is expected.
//!
//! A step is a block of commands, `----`, what is expected, and an empty line. Commands:
//! `rings N`; `worker NAME BYTES [zone=Z] [draining]` (new or changed); `gone NAME`; `segment ID BYTES [copies=N]` (new
//! or changed); `segments PREFIX COUNT BYTES [copies=N]` (lengths from half of BYTES to one and a half); `list` (show
//! every segment in this step). Each step places, shows what changes, and takes it as the next step's previous state.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use trough_core::{
    NodeId, SegmentId,
    placement::{ChangeKind, Options, Placement, SegmentTable, Worker, plan},
};
use xxhash_rust::xxh3::xxh3_64;

#[derive(Default)]
struct Cluster {
    rings: usize,
    workers: BTreeMap<String, Worker>,
    segments: BTreeMap<String, (u64, usize)>,
    /// Ring and node by segment.
    standing: BTreeMap<String, Vec<(usize, NodeId)>>,
    list: bool,
}

impl Cluster {
    fn command(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let option = |name: &str| words.iter().find_map(|w| w.strip_prefix(name)?.strip_prefix('='));
        let copies = option("copies").map_or(Some(self.rings), |n| n.parse().ok())?;
        match *words.first()? {
            "rings" => self.rings = words.get(1)?.parse().ok()?,
            "worker" => {
                let name = words.get(1)?;
                let worker = Worker {
                    node: NodeId::new(name).ok()?,
                    weight_bytes: words.get(2)?.parse().ok()?,
                    zone: option("zone").map(str::to_owned),
                    draining: words.contains(&"draining"),
                };
                self.workers.insert((*name).to_owned(), worker);
            }
            "gone" => drop(self.workers.remove(*words.get(1)?)?),
            "segment" => {
                self.segments.insert((*words.get(1)?).to_owned(), (words.get(2)?.parse().ok()?, copies));
            }
            "segments" => {
                let (count, bytes): (u64, u64) = (words.get(2)?.parse().ok()?, words.get(3)?.parse().ok()?);
                for i in 0..count {
                    let id = format!("{}{i}", words.get(1)?);
                    let length = bytes / 2 + if bytes == 0 { 0 } else { xxh3_64(id.as_bytes()) % bytes };
                    self.segments.insert(id, (length, copies));
                }
            }
            "list" => self.list = true,
            _ => return None,
        }
        Some(())
    }

    fn step(&mut self) -> String {
        let mut table = SegmentTable::new(self.rings.max(8));
        for (index, (id, (bytes, copies))) in self.segments.iter().enumerate() {
            table.push(&SegmentId::new(id).expect("a valid id"), *bytes, *copies);
            for (ring, node) in self.standing.get(id).into_iter().flatten() {
                let node = table.intern(node).expect("few nodes");
                table.set_previous(index, *ring, node);
            }
        }
        let workers: Vec<_> = self.workers.values().cloned().collect();
        let placement = plan(&workers, self.rings, &table, &Options::default()).expect("sensible input");
        let shown = self.show(&table, &workers, &placement);
        let ids = self.segments.keys().enumerate();
        let copies = |i| placement.copies(i).map(|(ring, node)| (ring, node.clone())).collect();
        self.standing = ids.map(|(i, id)| (id.clone(), copies(i))).collect();
        self.list = false;
        shown
    }

    fn show(&self, table: &SegmentTable, workers: &[Worker], placement: &Placement) -> String {
        let mut out = String::new();
        let mut digest = String::new();
        for (i, id) in self.segments.keys().enumerate() {
            let line = placement.assigned(i).iter().map(|node| placement.nodes().get(usize::from(*node)));
            let line: Vec<&str> = line.map(|node| node.map_or("-", NodeId::as_str)).collect();
            let _ = writeln!(digest, "{id} -> {}", line.join(" "));
        }
        if self.list {
            out.push_str(&digest);
        }
        let (moves, balance) = (placement.moves(table), placement.balance(table, workers));
        let (mut taken, mut given) = (vec![0; placement.nodes().len()], vec![0; placement.nodes().len()]);
        for change in placement.changes(table) {
            match change.kind {
                ChangeKind::Add => taken[usize::from(change.node)] += 1,
                ChangeKind::Remove => given[usize::from(change.node)] += 1,
                ChangeKind::Renumber { .. } => {}
            }
        }
        let mut nodes: Vec<usize> = (0..placement.nodes().len()).collect();
        nodes.sort_by_key(|i| &placement.nodes()[*i]);
        for i in nodes {
            let (name, copies, bytes) = (&placement.nodes()[i], balance.copies[i], balance.bytes[i]);
            let _ = writeln!(out, "{name}: {copies} copies, {bytes} bytes, loads {}, drops {}", taken[i], given[i]);
        }
        let _ = writeln!(
            out,
            "loads {} copies of {} bytes, drops {}, renumbers {}, missing {}, max/mean {:.4}, digest {:016x}",
            moves.adds,
            moves.added_bytes,
            moves.removes,
            moves.renumbered,
            moves.missing,
            balance.max_over_mean,
            xxh3_64(digest.as_bytes()),
        );
        out
    }
}

/// Plays a file and returns it with what placement makes of it.
fn play(text: &str) -> Result<String, String> {
    let (mut cluster, mut out, mut expected) = (Cluster::default(), String::new(), false);
    for (number, line) in text.lines().enumerate() {
        if line == "----" {
            out.push_str("----\n");
            out.push_str(&cluster.step());
            expected = true;
        } else if line.trim().is_empty() {
            out.push('\n');
            expected = false;
        } else if !expected {
            if !line.starts_with('#') {
                cluster.command(line).ok_or_else(|| format!("line {}: {line:?} is no command", number + 1))?;
            }
            out.push_str(line);
            out.push('\n');
        }
    }
    Ok(out)
}

#[test]
fn golden_vectors() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/placement");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut played = 0;
    for entry in fs::read_dir(dir).expect("the vectors are there") {
        let path = entry.expect("readable").path();
        let text = fs::read_to_string(&path).expect("readable");
        let now = play(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if update {
            fs::write(&path, &now).expect("writable");
        }
        let difference = text.lines().zip(now.lines()).find(|(was, is)| was != is);
        assert!(update || text == now, "{}: expected and got {difference:#?}", path.display());
        played += 1;
    }
    assert!(played > 0, "no vectors");
}
