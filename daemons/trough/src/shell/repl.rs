//! The interactive part: line editing, history, questions.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use reedline::{
    ColumnarMenu, DefaultHinter, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder as _, Prompt,
    PromptEditMode, PromptHistorySearch, Reedline, ReedlineEvent, ReedlineMenu, Signal, ValidationResult, Validator,
    default_emacs_keybindings,
};

use super::{
    command,
    complete::Words,
    highlight::Colours,
    output::{Closed, wants_colour},
    session::{Next, Session},
};

/// Lines of history that are kept.
const HISTORY: usize = 10_000;

/// Reads and runs commands until the end of input or QUIT.
pub(super) async fn run(mut session: Session) -> anyhow::Result<ExitCode> {
    println!(
        "trough {}: type HELP for the commands, TAB to complete, Ctrl-R to search the history. SQL ends with a semicolon.",
        env!("CARGO_PKG_VERSION")
    );
    let mut editor = editor(&session);
    loop {
        let (returned, signal) = read_line(editor, Line(session.prompt())).await?;
        editor = returned;
        let text = match signal {
            Signal::Success(text) => text,
            Signal::CtrlC => continue,
            _ => break,
        };
        if let Err(e) = editor.sync_history() {
            session.out.note(&format!("history is not kept: {e}"));
        }
        let mut quit = false;
        for one in command::split(&text) {
            match run_one(&mut session, one).await {
                Ok(Next::Quit) => quit = true,
                Ok(_) => continue,
                // Whoever leaves the pager has seen enough.
                Err(e) if e.is::<Closed>() => continue,
                Err(e) => session.out.error(&format!("{e:#}")),
            }
            break;
        }
        if quit {
            break;
        }
    }
    println!("bye!");
    Ok(ExitCode::SUCCESS)
}

/// Runs one command; Ctrl-C cancels it.
async fn run_one(session: &mut Session, text: &str) -> anyhow::Result<Next> {
    let command = command::parse(text);
    let mut confirmed = false;
    loop {
        let done = tokio::select! {
            done = session.execute(&command, confirmed) => Some(done),
            _ = tokio::signal::ctrl_c() => None,
        };
        match done {
            None => {
                session.cancel();
                anyhow::bail!("cancelled");
            }
            Some(Ok(Next::Confirm(question))) if !confirmed => {
                let (_, answer) = read_line(Reedline::create(), Question(question)).await?;
                let yes = |text: &str| matches!(text.trim().to_lowercase().as_str(), "yes" | "y");
                if !matches!(answer, Signal::Success(text) if yes(&text)) {
                    anyhow::bail!("not done");
                }
                confirmed = true;
            }
            Some(done) => return done,
        }
    }
}

/// Reading blocks, so it has a thread of its own; the runtime goes on (feeds, connections).
async fn read_line(mut editor: Reedline, prompt: impl Prompt + 'static) -> anyhow::Result<(Reedline, Signal)> {
    let (editor, signal) = tokio::task::spawn_blocking(move || {
        let signal = editor.read_line(&prompt);
        (editor, signal)
    })
    .await
    .context("read a line")?;
    Ok((editor, signal.context("read a line")?))
}

fn editor(session: &Session) -> Reedline {
    let mut keys = default_emacs_keybindings();
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu("completion".into()), ReedlineEvent::MenuNext]),
    );
    keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
    let completer = Words {
        runtime: tokio::runtime::Handle::current(),
        discovery: session.discovery.clone(),
        queries: session.queries.clone(),
        known: session.known.clone(),
    };
    let menu = Box::new(ColumnarMenu::default().with_name("completion"));
    let mut editor = Reedline::create()
        .with_completer(Box::new(completer))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_menu(ReedlineMenu::EngineCompleter(menu))
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_validator(Box::new(Semicolon))
        .with_ansi_colors(wants_colour());
    if wants_colour() {
        editor = editor.with_highlighter(Box::new(Colours)).with_hinter(Box::new(DefaultHinter::default()));
    }
    let Some(path) = history_file() else { return editor };
    match private_history(&path) {
        Ok(history) => editor.with_history(Box::new(history)),
        Err(e) => {
            eprintln!("history is not kept: {}: {e:#}", path.display());
            editor
        }
    }
}

/// The file that TROUGH_HISTORY names, else one in the home directory; none if TROUGH_HISTORY is empty.
fn history_file() -> Option<PathBuf> {
    match std::env::var_os("TROUGH_HISTORY") {
        Some(named) => (!named.is_empty()).then(|| PathBuf::from(named)),
        None => std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".trough_shell_history")),
    }
}

/// The history in a file that nobody else may read: statements hold data.
fn private_history(path: &Path) -> anyhow::Result<FileBackedHistory> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    Ok(FileBackedHistory::with_file(HISTORY, path.to_owned())?)
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

struct Question(String);

impl Prompt for Question {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }
    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed(" ")
    }
    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed(" ")
    }
    fn render_prompt_history_search_indicator(&self, _: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Borrowed(" ")
    }
}

struct Semicolon;

impl Validator for Semicolon {
    fn validate(&self, line: &str) -> ValidationResult {
        if command::is_open(line) { ValidationResult::Incomplete } else { ValidationResult::Complete }
    }
}
