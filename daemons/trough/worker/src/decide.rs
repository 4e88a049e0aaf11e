//! What to do about one segment: a pure function of what is and what should be.

use crate::{
    files::{LocalFile, Want},
    locks::Base,
};

/// What is and what should be, for one segment.
#[derive(Debug)]
pub(crate) struct View<'a> {
    /// The local file.
    pub(crate) local: Option<&'a LocalFile>,
    /// This node's assignment.
    pub(crate) want: Option<&'a Want>,
    /// Whether the write lock vanished while the file held what was never promoted.
    pub(crate) orphan: bool,
    /// Whether the file's log has what was written under a lock that is gone.
    pub(crate) stray: bool,
    /// If this process holds the write lock: what the file is; none inside if it has been written since it was known.
    pub(crate) held: Option<Option<Base>>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// All is as it should be.
    Nothing,
    /// Advertise the local file.
    Serve,
    /// Fetch the canonical copy: none is here.
    Fetch,
    /// Fetch the canonical copy: the one here is older, or broken.
    Freshen,
    /// The canonical copy is newer than what was promoted from here, and nothing was written since: fetch it, and
    /// release the write lock with the replacement.
    FreshenAndRelease,
    /// The local file is the canonical copy: release the write lock.
    Release,
    /// Another node shall hold the segment: release the write lock if the local file is the canonical copy and others serve it.
    ReleaseIfServedElsewhere,
    /// Serve the local file as it is, and replace or drop it on no account: its write lock vanished.
    Keep,
    /// Nobody assigned it here: drop it if enough others serve it.
    Collect,
    /// This process holds the write lock of a file that is not there.
    Lost,
}

/// Decides. A file under this node's write lock that may hold writes that were never promoted is never touched.
pub(crate) fn decide(view: &View<'_>) -> Step {
    if let Some(base) = view.held {
        return decide_held(view, base);
    }
    if view.orphan && view.local.is_some_and(|local| local.broken.is_none()) {
        return Step::Keep;
    }
    match (view.want, view.local) {
        (None, None) => Step::Nothing,
        (Some(_), None) => Step::Fetch,
        (None, Some(_)) => Step::Collect,
        (Some(_), Some(local)) if local.broken.is_some() => Step::Freshen,
        // Its length and time say nothing of its log.
        (Some(want), Some(local)) if view.stray || !want.is_met_by(local) => Step::Freshen,
        (Some(_), Some(_)) => Step::Serve,
    }
}

fn decide_held(view: &View<'_>, base: Option<Base>) -> Step {
    if view.local.is_none() {
        return Step::Lost;
    }
    let Some(base) = base else { return Step::Nothing };
    match (base, view.want) {
        (Base::Canonical(stamp), Some(want)) if want.is(stamp) => Step::Release,
        // Of a file that was found only its time tells whether it was written since it was promoted.
        (Base::Found(stamp), Some(want)) if want.mtime_ms.is_some() && want.is(stamp) => Step::Release,
        (Base::Canonical(stamp), Some(want)) if want.mtime_ms.is_some_and(|mtime| mtime > stamp.mtime_ms) => {
            Step::FreshenAndRelease
        }
        // Provisioned, never written, and meanwhile somebody put a file into the store.
        (Base::Fresh, Some(_)) => Step::FreshenAndRelease,
        (Base::Canonical(_) | Base::Found(_), None) => Step::ReleaseIfServedElsewhere,
        _ => Step::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::files::Stamp;

    const V1: Stamp = Stamp { bytes: 10, mtime_ms: 1001 };
    const V2: Stamp = Stamp { bytes: 10, mtime_ms: 2002 };

    fn file(stamp: Stamp) -> LocalFile {
        LocalFile { path: Path::new("/x").into(), stamp, plain: true, served: true, broken: None, fetched_for: None }
    }

    fn want(stamp: Stamp) -> Want {
        Want {
            remote_path: "x".into(),
            bytes: stamp.bytes,
            mtime_ms: Some(stamp.mtime_ms),
            sha256: None,
            cold: false,
            python: false,
        }
    }

    fn step(local: Option<Stamp>, wanted: Option<Stamp>, held: Option<Option<Base>>) -> Step {
        let (local, wanted) = (local.map(file), wanted.map(want));
        decide(&View { local: local.as_ref(), want: wanted.as_ref(), orphan: false, stray: false, held })
    }

    #[test]
    fn without_a_lock() {
        assert_eq!(step(None, None, None), Step::Nothing);
        assert_eq!(step(None, Some(V1), None), Step::Fetch);
        assert_eq!(step(Some(V1), Some(V1), None), Step::Serve);
        assert_eq!(step(Some(V1), Some(V2), None), Step::Freshen);
        assert_eq!(step(Some(V2), Some(V1), None), Step::Freshen);
        assert_eq!(step(Some(V1), None, None), Step::Collect);
    }

    #[test]
    fn broken_copies_are_fetched_again() {
        let broken = LocalFile { broken: Some("x".into()), ..file(V1) };
        assert_eq!(
            decide(&View { local: Some(&broken), want: Some(&want(V1)), orphan: true, stray: false, held: None }),
            Step::Freshen
        );
    }

    #[test]
    fn a_stray_log_is_not_served_for_long() {
        let (local, want) = (LocalFile { plain: false, ..file(V1) }, want(V1));
        let view = |orphan| View { local: Some(&local), want: Some(&want), orphan, stray: true, held: None };
        assert_eq!(decide(&view(false)), Step::Freshen);
        assert_eq!(decide(&view(true)), Step::Keep);
    }

    #[test]
    fn what_was_never_promoted_outlives_the_metadata() {
        for want in [None, Some(want(V1)), Some(want(V2))] {
            let orphan = View { local: Some(&file(V1)), want: want.as_ref(), orphan: true, stray: false, held: None };
            assert_eq!(decide(&orphan), Step::Keep);
        }
        let lost = View { local: None, want: Some(&want(V1)), orphan: true, stray: false, held: None };
        assert_eq!(decide(&lost), Step::Fetch);
    }

    #[test]
    fn under_a_lock_unpromoted_writes_are_safe() {
        for wanted in [None, Some(V1), Some(V2)] {
            assert_eq!(step(Some(V1), wanted, Some(None)), Step::Nothing);
            assert_eq!(step(Some(V1), wanted, Some(Some(Base::Unknown))), Step::Nothing);
        }
        assert_eq!(step(Some(V1), Some(V2), Some(Some(Base::Found(V1)))), Step::Nothing);
        assert_eq!(step(None, Some(V1), Some(None)), Step::Lost);
    }

    #[test]
    fn a_promoted_file_gives_its_lock_back() {
        assert_eq!(step(Some(V1), Some(V1), Some(Some(Base::Canonical(V1)))), Step::Release);
        assert_eq!(step(Some(V1), Some(V1), Some(Some(Base::Found(V1)))), Step::Release);
        // Of the same length, and nobody knows whether it is the same: it may hold what was never promoted.
        let timeless = Want { mtime_ms: None, ..want(V1) };
        let held = View {
            local: Some(&file(V1)),
            want: Some(&timeless),
            orphan: false,
            stray: false,
            held: Some(Some(Base::Found(V1))),
        };
        assert_eq!(decide(&held), Step::Nothing);
        assert_eq!(step(Some(V1), None, Some(Some(Base::Canonical(V1)))), Step::ReleaseIfServedElsewhere);
        assert_eq!(step(Some(V1), None, Some(Some(Base::Found(V1)))), Step::ReleaseIfServedElsewhere);
        assert_eq!(step(Some(V1), Some(V2), Some(Some(Base::Canonical(V1)))), Step::FreshenAndRelease);
        // The assignment has not caught up with the promotion yet.
        assert_eq!(step(Some(V2), Some(V1), Some(Some(Base::Canonical(V2)))), Step::Nothing);
        assert_eq!(step(Some(V1), Some(V2), Some(Some(Base::Fresh))), Step::FreshenAndRelease);
    }
}
