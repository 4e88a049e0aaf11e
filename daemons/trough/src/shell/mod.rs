//! `trough shell`: the Python shell's commands and SQL over connected segments, interactive, from `-c` or from a pipe.

mod command;
mod render;
mod repl;
mod session;

use std::{
    io::{BufRead as _, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;
use session::{Next, Session};
use trough_client::{
    Catalog, Discovery, DiscoveryOptions, QueryClient, WriteClient, http::HttpOptions, write::WriteOptions,
};
use trough_core::SchemaId;

/// The long help.
pub(crate) const LONG: &str = "\
The interactive shell. Type HELP for its commands. With -c, or with commands on standard input, it runs them and ends; \
its exit status then tells whether all went well.

    trough shell -c 'show segments matching ^N1' -c 'connect N14228' -c 'select count(*) from flights'
    trough shell -w -s crawl 300124";

/// Options of `trough shell`.
#[derive(Args, Debug)]
pub struct ShellArgs {
    /// The cluster's metadata: rethinkdb://[USER[:PASSWORD]@]HOST[:PORT][,HOST…]/DATABASE
    #[arg(
        short = 'u',
        long = "rethinkdb-trough-db-url",
        visible_alias = "url",
        value_name = "URL",
        env = "TROUGH_URL",
        default_value = "rethinkdb://localhost/trough_configuration",
        hide_env_values = true
    )]
    pub url: String,
    /// Allow writing, provisioning, promoting and shredding
    #[arg(short, long)]
    pub writable: bool,
    /// Schema of segments that are new
    #[arg(short, long, value_name = "SCHEMA", default_value = "default")]
    pub schema: String,
    /// Run a command and end; may be given several times
    #[arg(short, long, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Output: table, pretty or raw
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "pretty", "raw"])]
    pub format: String,
    /// Bearer token for workers and sync servers
    #[arg(long, env = "TROUGH_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Authorities that the daemons' certificates are checked against (PEM)
    #[arg(long, env = "TROUGH_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Segments to connect to
    #[arg(value_name = "segment")]
    pub segments: Vec<String>,
}

/// Runs the shell.
///
/// # Errors
/// If it cannot start; a command that fails is told and makes the exit status 1.
pub async fn run(args: ShellArgs) -> anyhow::Result<ExitCode> {
    let mut session = session(&args)?;
    if !args.command.is_empty() {
        return Ok(batch(&mut session, args.command.into_iter()).await);
    }
    if !std::io::stdin().is_terminal() {
        // Commands end at line ends; a statement over several lines ends at its semicolon.
        let lines = std::io::stdin().lock().lines().map_while(Result::ok);
        return Ok(batch(&mut session, Statements { lines }).await);
    }
    repl::run(session).await
}

fn session(args: &ShellArgs) -> anyhow::Result<Session> {
    let options =
        trough_reql::Options::from_url(&args.url).with_context(|| format!("read the URL {:?} (-u)", args.url))?;
    let catalog = Catalog::new(trough_reql::Client::new(options));
    let discovery = Discovery::new(catalog, DiscoveryOptions::default());
    let ca_pem = match &args.tls_ca {
        Some(path) => Some(std::fs::read(path).with_context(|| format!("read {} (--tls-ca)", path.display()))?),
        None => None,
    };
    let http = HttpOptions { token: args.token.clone(), ca_pem, ..HttpOptions::default() };
    let schema = SchemaId::new(&args.schema).context("--schema")?;
    let writes = WriteOptions {
        schema: schema.clone(),
        timeout: std::time::Duration::from_secs(600),
        ..WriteOptions::default()
    };
    Ok(Session {
        queries: QueryClient::new(discovery.clone(), &http)?,
        writes: WriteClient::new(discovery.clone(), &http, writes)?,
        discovery,
        segments: session::parse_ids(&args.segments)?,
        writable: args.writable,
        schema,
        format: render::Format::named(&args.format),
        width: if std::io::stdout().is_terminal() { repl::terminal_width() } else { None },
        seen: Vec::new(),
    })
}

/// Runs commands until one fails or says QUIT.
async fn batch(session: &mut Session, commands: impl Iterator<Item = String>) -> ExitCode {
    for text in commands {
        match session.execute(command::parse(&text)).await {
            Ok(Next::Continue) => {}
            Ok(Next::Quit) => break,
            Err(e) => {
                eprintln!("error: {e:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Cuts lines into commands.
struct Statements<I> {
    lines: I,
}

impl<I: Iterator<Item = String>> Iterator for Statements<I> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut text = self.lines.next()?;
        while repl::is_open(&text) {
            match self.lines.next() {
                Some(line) => {
                    text.push('\n');
                    text.push_str(&line);
                }
                None => break,
            }
        }
        Some(text)
    }
}
