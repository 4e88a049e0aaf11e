//! `trough shell`: the Python shell's commands and SQL over connected segments, interactive, from `-c` or from a pipe.

mod change;
mod command;
mod complete;
mod connected;
mod each;
mod help;
mod highlight;
mod lex;
mod merge;
mod merged;
mod output;
mod progress;
mod render;
mod repl;
mod session;
mod show;

use std::{
    io::{BufRead as _, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use output::{Closed, Output};
use session::{Next, Session};
use trough_client::{
    Catalog, Discovery, DiscoveryOptions, QueryClient, WriteClient, http::HttpOptions, write::WriteOptions,
};
use trough_core::SchemaId;

/// The long help.
pub(crate) const LONG: &str = "\
The interactive shell. Type HELP for its commands. With -c, or with commands on standard input, it runs them until one fails, \
and ends.

    trough shell -c 'show segments matching ^N1' -c 'connect N14228' -c 'select count(*) from flights'
    trough shell -w -s crawl 300124

Exit status: 0 if all went well, 1 if a statement failed, 2 if the command line is wrong.";

/// The usage line.
pub(crate) const USAGE: &str = "\
trough shell [-u rethinkdb://host[:port][,host…]/database] [-w] [-s SCHEMA] [-c COMMAND] [segment…]";

/// The exit status for a wrong command line, as clap's own.
const WRONG_USAGE: u8 = 2;
/// How long a looked-up segment is kept: a worker that has it no longer says so, and it is looked up anew.
const LOOKED_UP: Duration = Duration::from_secs(60);

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
    /// Output: table, pretty, raw, csv or ndjson
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = render::Format::NAMES, ignore_case = true)]
    pub format: String,
    /// Do not ask before SHRED
    #[arg(short, long)]
    pub yes: bool,
    /// Log on standard error what is done
    #[arg(short, long)]
    pub verbose: bool,
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
/// If it cannot read what is typed; a command that fails is told and makes the exit status 1.
pub async fn run(args: ShellArgs) -> anyhow::Result<ExitCode> {
    if args.verbose {
        // Spans of the shell's own go nowhere.
        let _ = trough_http::init_logging(&trough_http::Logging::of_level("shell", "debug"))?;
    }
    let interactive = args.command.is_empty() && std::io::stdin().is_terminal();
    let mut session = match session(&args, interactive) {
        Ok(session) => session,
        Err(e) => {
            eprintln!("trough shell: {e:#}\n\nUsage: {USAGE}");
            return Ok(WRONG_USAGE.into());
        }
    };
    if interactive {
        return repl::run(session).await;
    }
    if !args.command.is_empty() {
        return Ok(batch(&mut session, args.command.into_iter()).await);
    }
    let lines = std::io::stdin().lock().lines().map_while(Result::ok);
    Ok(batch(&mut session, Statements { lines }).await)
}

fn session(args: &ShellArgs, interactive: bool) -> anyhow::Result<Session> {
    let options =
        trough_reql::Options::from_url(&args.url).context("read the URL of the metadata (-u, or TROUGH_URL)")?;
    let catalog = Catalog::new(trough_reql::Client::new(options));
    let discovery = Discovery::new(catalog, DiscoveryOptions { ttl: LOOKED_UP, ..DiscoveryOptions::default() });
    let ca_pem = match &args.tls_ca {
        Some(path) => Some(std::fs::read(path).with_context(|| format!("read {} (--tls-ca)", path.display()))?),
        None => None,
    };
    let http = HttpOptions { token: args.token.clone(), ca_pem, ..HttpOptions::default() };
    let schema = SchemaId::new(&args.schema).context("--schema")?;
    let writes = WriteOptions { schema: schema.clone(), timeout: Duration::from_secs(600), ..WriteOptions::default() };
    let segments = session::parse_ids(&args.segments)?;
    let known = complete::Known { first: segments.first().cloned(), tables: None };
    Ok(Session {
        queries: QueryClient::new(discovery.clone(), &http)?,
        writes: WriteClient::new(discovery.clone(), &http, writes)?,
        discovery,
        connected: connected::Connected::Ids(segments),
        trace: Mutex::default(),
        writable: args.writable,
        schema,
        format: render::Format::named(&args.format.to_lowercase()),
        timing: true,
        yes: args.yes,
        out: Output::new(interactive),
        known: Arc::new(Mutex::new(known)),
    })
}

/// Runs commands until one fails or says QUIT.
async fn batch(session: &mut Session, texts: impl Iterator<Item = String>) -> ExitCode {
    for text in texts {
        for one in command::split(&text) {
            match session.execute(&command::parse(one), false).await {
                Ok(Next::Continue) => {}
                Ok(Next::Quit) => return ExitCode::SUCCESS,
                Ok(Next::Confirm(_)) => {
                    session.out.error("this cannot be undone, and nobody can be asked: -y says yes");
                    return ExitCode::FAILURE;
                }
                // Whoever reads has seen enough.
                Err(e) if e.is::<Closed>() => return ExitCode::SUCCESS,
                Err(e) => {
                    session.out.error(&format!("{e:#}"));
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    ExitCode::SUCCESS
}

/// Cuts lines into commands: the shell's own end with their line, SQL with its semicolon.
struct Statements<I> {
    lines: I,
}

impl<I: Iterator<Item = String>> Iterator for Statements<I> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut text = self.lines.next()?;
        while command::is_open(&text) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_commands() {
        let lines = ["connect a", "", "select 1,", "2; show tables", "-- end", "select 3"].map(str::to_owned);
        let all: Vec<String> = Statements { lines: lines.into_iter() }.collect();
        assert_eq!(all, ["connect a", "", "select 1,\n2; show tables", "-- end", "select 3"]);
    }
}
