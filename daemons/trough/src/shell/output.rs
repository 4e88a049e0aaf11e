//! Where results go: standard output, and from a session on a terminal through a pager once they are longer than the screen.

use std::{
    io::{IsTerminal as _, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
};

use super::{progress::Progress, render::safe};

/// Nobody reads the output any more: the pager was left, or the pipe closed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the output is closed")]
pub(super) struct Closed;

/// How long output is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Paging {
    Off,
    /// A shell command.
    Program(String),
}

/// The pager that is used unless another is named: it keeps colours and long lines, and leaves the text on the screen.
const LESS: &str = "less -RSX";

impl Paging {
    /// What TROUGH_PAGER or PAGER name, else less.
    pub(super) fn of_environment() -> Self {
        let named = ["TROUGH_PAGER", "PAGER"].iter().find_map(|name| std::env::var(name).ok());
        Self::named(named.as_deref().unwrap_or("on"))
    }

    pub(super) fn named(text: &str) -> Self {
        match text.trim() {
            "" | "off" | "cat" => Self::Off,
            "on" => Self::Program(LESS.to_owned()),
            program => Self::Program(program.to_owned()),
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Off => "off",
            Self::Program(program) => program,
        }
    }
}

enum Sink {
    Plain,
    /// Held until it is known to be longer than the screen.
    Screen {
        held: String,
        lines: usize,
        height: usize,
    },
    Pager(Box<Child>, ChildStdin),
    Closed,
}

/// The output of one statement after the other.
pub(super) struct Output {
    sink: Sink,
    pub(super) paging: Paging,
    /// Whether a person sits before it: standard output is a terminal, and commands are typed.
    pub(super) interactive: bool,
    pub(super) colour: bool,
    pub(super) progress: Progress,
}

impl Output {
    pub(super) fn new(interactive: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self {
            sink: Sink::Plain,
            paging: Paging::of_environment(),
            interactive: interactive && terminal,
            colour: terminal && wants_colour(),
            progress: Progress::default(),
        }
    }

    /// A statement begins.
    pub(super) fn begin(&mut self) {
        let height = terminal_size::terminal_size().map_or(24, |(_, height)| usize::from(height.0));
        self.sink = match self.paging {
            Paging::Program(_) if self.interactive => Sink::Screen { held: String::new(), lines: 0, height },
            _ => Sink::Plain,
        };
    }

    /// Takes text on, and empties it. A reader who is slow makes this wait.
    ///
    /// # Errors
    /// [`Closed`].
    pub(super) fn take(&mut self, text: &mut String) -> Result<(), Closed> {
        let done = self.write(text);
        text.clear();
        done
    }

    pub(super) fn write(&mut self, text: &str) -> Result<(), Closed> {
        if text.is_empty() {
            return Ok(());
        }
        if let Sink::Screen { held, lines, height } = &mut self.sink {
            held.push_str(text);
            *lines += text.matches('\n').count();
            // The prompt wants a line, too.
            if *lines < *height {
                return Ok(());
            }
            let held = std::mem::take(held);
            self.page();
            return self.write(&held);
        }
        let written = match &mut self.sink {
            Sink::Pager(_, pipe) => pipe.write_all(text.as_bytes()),
            Sink::Closed => return Err(Closed),
            Sink::Plain | Sink::Screen { .. } => self.progress.aside(|| {
                let mut out = std::io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.flush())
            }),
        };
        written.map_err(|_| {
            self.close();
            Closed
        })
    }

    fn page(&mut self) {
        let Paging::Program(program) = &self.paging else {
            self.sink = Sink::Plain;
            return;
        };
        self.progress.end();
        let started = Command::new("/bin/sh").args(["-c", program]).stdin(Stdio::piped()).spawn();
        let piped = started.ok().and_then(|mut child| child.stdin.take().map(|pipe| (child, pipe)));
        self.sink = match piped {
            Some((child, pipe)) => Sink::Pager(Box::new(child), pipe),
            None => Sink::Plain,
        };
    }

    /// The statement is over: what is held is printed, and a pager waited for.
    pub(super) fn end(&mut self) -> Result<(), Closed> {
        self.progress.end();
        if let Sink::Screen { held, .. } = &mut self.sink {
            let held = std::mem::take(held);
            self.sink = Sink::Plain;
            return self.write(&held);
        }
        let closed = matches!(self.sink, Sink::Closed);
        self.close();
        self.sink = Sink::Plain;
        if closed { Err(Closed) } else { Ok(()) }
    }

    /// Closes the pager's input and waits for it.
    fn close(&mut self) {
        if let Sink::Pager(mut child, pipe) = std::mem::replace(&mut self.sink, Sink::Closed) {
            drop(pipe);
            let _ = child.wait();
        }
    }

    /// Tells what is not part of a result; in the midst of one that goes to another program, on standard error.
    pub(super) fn note(&mut self, text: &str) {
        self.progress.aside(|| eprintln!("{text}"));
    }

    /// Tells an error.
    pub(super) fn error(&mut self, text: &str) {
        let red = std::io::stderr().is_terminal() && wants_colour();
        let (on, off) = if red { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
        let lines: Vec<String> = text.lines().map(safe).collect();
        self.note(&format!("{on}error:{off} {}", lines.join("\n")));
    }
}

/// Whether a terminal gets colours: unless NO_COLOR is set, or it can show none.
pub(super) fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pagers_are_named() {
        assert_eq!(Paging::named("off"), Paging::Off);
        assert_eq!(Paging::named("cat"), Paging::Off);
        assert_eq!(Paging::named("on").name(), LESS);
        assert_eq!(Paging::named("more -x").name(), "more -x");
    }

    #[test]
    fn short_output_is_held_and_long_output_is_paged() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("paged");
        let mut out = Output::new(false);
        out.paging = Paging::Program(format!("cat > {}", file.display()));
        out.sink = Sink::Screen { held: String::new(), lines: 0, height: 3 };
        out.write("1\n2\n").expect("held");
        assert!(matches!(out.sink, Sink::Screen { .. }) && !file.exists());
        out.write("3\n").expect("paged");
        assert!(matches!(out.sink, Sink::Pager(..)));
        out.end().expect("the pager ends");
        assert_eq!(std::fs::read_to_string(&file).expect("written"), "1\n2\n3\n");
    }

    #[test]
    fn a_pager_that_is_left_closes_the_output() {
        let mut out = Output::new(false);
        out.paging = Paging::Program("exec true".to_owned());
        out.sink = Sink::Screen { held: String::new(), lines: 0, height: 0 };
        let line = "x".repeat(1 << 16) + "\n";
        // More than a pipe holds.
        let closed = (0..64).any(|_| out.write(&line).is_err());
        assert!(closed && out.write("more\n").is_err() && out.end().is_err());
    }
}
