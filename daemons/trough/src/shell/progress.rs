//! The bar that tells how many segments have answered: on standard error, if that is a terminal, once a statement takes its time.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A statement that takes less shows none.
const PATIENCE: Duration = Duration::from_millis(400);

/// The progress of one statement.
#[derive(Default)]
pub(super) struct Progress {
    state: Option<(Instant, u64)>,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A statement over so many segments begins.
    pub(super) fn begin(&mut self, segments: u64) {
        self.end();
        if segments > 1 && std::io::stderr().is_terminal() {
            self.state = Some((Instant::now(), segments));
        }
    }

    /// So many segments have answered, so many of them failed.
    pub(super) fn tell(&mut self, done: u64, failed: u64) {
        let Some((began, total)) = self.state.filter(|(began, _)| began.elapsed() >= PATIENCE) else { return };
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
            let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} segments{msg} {elapsed} (Ctrl-C cancels)");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_elapsed(began.elapsed())
        });
        if failed > 0 {
            bar.set_message(format!(", {failed} failed"));
        }
        bar.set_position(done.min(total));
    }

    /// Prints something while the bar is out of the way.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// The statement is over.
    pub(super) fn end(&mut self) {
        self.state = None;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
