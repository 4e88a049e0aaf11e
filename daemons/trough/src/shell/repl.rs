//! The interactive part: line editing, history, completion.

use std::{
    borrow::Cow,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, RwLock},
};

use anyhow::Context as _;
use reedline::{
    ColumnarMenu, Completer, DefaultHinter, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder as _, Prompt,
    PromptEditMode, PromptHistorySearch, Reedline, ReedlineEvent, ReedlineMenu, Signal, Span, Suggestion,
    ValidationResult, Validator, default_emacs_keybindings,
};

use super::{
    command,
    session::{Next, Session},
};

/// Lines of history that are kept.
const HISTORY: usize = 5_000;
/// Words that begin commands or follow them.
const WORDS: &[&str] = &[
    "SHOW",
    "TABLES",
    "CREATE TABLE",
    "SEGMENTS",
    "MATCHING",
    "SCHEMA",
    "SCHEMAS",
    "CONNECTIONS",
    "WORKERS",
    "LOCKS",
    "CONNECT",
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "ORDER BY",
    "LIMIT",
    "PROVISION",
    "PROMOTE",
    "SHRED SEGMENT",
    "REGISTER SCHEMA",
    "INFILE",
    "FORMAT",
    "TABLE",
    "PRETTY",
    "RAW",
    "WRITE",
    "INSERT INTO",
    "VALUES",
    "UPDATE",
    "DELETE FROM",
    "HELP",
    "QUIT",
];

/// The terminal's width.
pub(super) fn terminal_width() -> Option<u16> {
    // comfy-table asks the terminal itself when it is told to arrange dynamically without a width.
    comfy_table::Table::new().width()
}

/// Whether a text is SQL that goes on on the next line: no semicolon yet, and not one of the shell's own commands,
/// which end with their line.
pub(super) fn is_open(text: &str) -> bool {
    let trimmed = text.trim_end();
    if trimmed.is_empty() || trimmed.ends_with(';') {
        return false;
    }
    matches!(command::parse(trimmed), command::Command::Query(_) | command::Command::Write(_))
}

/// Reads and runs commands until the end of input or QUIT.
pub(super) async fn run(mut session: Session) -> anyhow::Result<ExitCode> {
    println!("Welcome to the trough shell. Type HELP for its commands; SQL ends with a semicolon.\n");
    let segments = Arc::new(RwLock::new(Vec::new()));
    let mut editor = editor(segments.clone())?;
    loop {
        let prompt = Line(session.prompt());
        // Reading blocks, so it has a thread of its own; the runtime goes on (feeds, connections).
        let (returned, signal) = tokio::task::spawn_blocking(move || {
            let signal = editor.read_line(&prompt);
            (editor, signal)
        })
        .await
        .context("read a line")?;
        editor = returned;
        let text = match signal.context("read a line")? {
            Signal::Success(text) => text,
            Signal::CtrlC => continue,
            _ => break,
        };
        session.width = terminal_width();
        let done = tokio::select! {
            done = session.execute(command::parse(&text)) => done,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("cancelled")),
        };
        match done {
            Ok(Next::Quit) => break,
            Ok(Next::Continue) => {}
            Err(e) => eprintln!("error: {e:#}"),
        }
        if let Ok(mut known) = segments.write() {
            known.clone_from(&session.seen);
        }
    }
    println!("bye!");
    Ok(ExitCode::SUCCESS)
}

fn editor(segments: Arc<RwLock<Vec<String>>>) -> anyhow::Result<Reedline> {
    let mut keys = default_emacs_keybindings();
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu("completion".into()), ReedlineEvent::MenuNext]),
    );
    let menu = Box::new(ColumnarMenu::default().with_name("completion"));
    let mut editor = Reedline::create()
        .with_completer(Box::new(Words { segments }))
        .with_menu(ReedlineMenu::EngineCompleter(menu))
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_validator(Box::new(Semicolon))
        .with_hinter(Box::new(DefaultHinter::default()));
    if let Some(home) = std::env::var_os("HOME") {
        let path = PathBuf::from(home).join(".trough_shell_history");
        match FileBackedHistory::with_file(HISTORY, path) {
            Ok(history) => editor = editor.with_history(Box::new(history)),
            Err(e) => eprintln!("history is not kept: {e}"),
        }
    }
    Ok(editor)
}

struct Line(String);

impl Prompt for Line {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }
    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }
    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("... ")
    }
    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Owned(format!("(search: {}) ", search.term))
    }
}

struct Semicolon;

impl Validator for Semicolon {
    fn validate(&self, line: &str) -> ValidationResult {
        if is_open(line) { ValidationResult::Incomplete } else { ValidationResult::Complete }
    }
}

struct Words {
    segments: Arc<RwLock<Vec<String>>>,
}

impl Completer for Words {
    fn complete(&mut self, line: &str, position: usize) -> Vec<Suggestion> {
        let start = line[..position].rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let prefix = &line[start..position];
        if prefix.is_empty() {
            return Vec::new();
        }
        let suggest = |value: &str| Suggestion {
            value: value.to_owned(),
            span: Span::new(start, position),
            append_whitespace: true,
            ..Suggestion::default()
        };
        let upper = prefix.to_uppercase();
        let words = WORDS.iter().filter(|w| w.starts_with(&upper)).map(|w| suggest(w));
        let segments = self.segments.read().map(|s| s.clone()).unwrap_or_default();
        let ids = segments.iter().filter(|s| s.starts_with(prefix)).take(50).map(|s| suggest(s));
        words.chain(ids).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_goes_on_until_its_semicolon() {
        assert!(is_open("select 1"));
        assert!(is_open("insert into t\nvalues (1)"));
        for closed in ["select 1;", "", "show tables", "connect a", "help"] {
            assert!(!is_open(closed), "{closed}");
        }
    }
}
