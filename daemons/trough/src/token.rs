//! `trough token new`: makes a token, prints it once, and the line of TOKENS_FILE that lets it in.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sha2::{Digest as _, Sha256};
use trough_config::tokens;

/// What every token begins with, so that scanners for leaked secrets find it.
const PREFIX: &str = "trough_";

/// Options of `trough token`.
#[derive(Args, Debug)]
pub struct TokenArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Make a token
    New(NewArgs),
}

#[derive(Args, Debug)]
struct NewArgs {
    /// Whose it is; the log names it by this
    #[arg(long)]
    name: String,
    /// What it may do
    #[arg(long, value_parser = ["read", "write", "admin"])]
    role: String,
    /// The segments that it may touch: a regular expression that the whole id must match [default: all]
    #[arg(long, value_name = "REGEX")]
    segments: Option<String>,
    /// The last day, or the end as a time in RFC 3339 [default: none]
    #[arg(long, value_name = "DAY")]
    expires: Option<String>,
    /// The most requests a second [default: RATE_LIMIT]
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Append the line to this file instead of printing it
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// If what was asked for makes no token, or the file cannot be written.
pub fn run(args: &TokenArgs) -> anyhow::Result<()> {
    let What::New(new) = &args.what;
    let mut random = [0u8; 32];
    getrandom::fill(&mut random).map_err(|e| anyhow::anyhow!("get random bytes: {e}"))?;
    let token = format!("{PREFIX}{}", hex(&random));
    let line = line(new, &token)?;
    match &new.file {
        None => println!("{token}\n{line}"),
        Some(path) => {
            let mut file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o640)
                .open(path)
                .with_context(|| format!("open {} (--file)", path.display()))?;
            file.write_all(format!("{line}\n").as_bytes())
                .and_then(|()| file.sync_all())
                .with_context(|| format!("write {} (--file)", path.display()))?;
            tokens::read_file(path).map_err(anyhow::Error::msg)?;
            println!("{token}");
        }
    }
    Ok(())
}

/// The line, read back as the daemons will.
fn line(new: &NewArgs, token: &str) -> anyhow::Result<String> {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut line = format!(
        "- {{name: {}, role: {}, token_sha256: {}",
        quoted(&new.name),
        new.role,
        quoted(&hex(&Sha256::digest(token)))
    );
    for (field, value) in [("segments", &new.segments), ("expires", &new.expires)] {
        if let Some(value) = value {
            line.push_str(&format!(", {field}: {}", quoted(value)));
        }
    }
    if let Some(rate) = new.rate {
        line.push_str(&format!(", rate: {rate}"));
    }
    line.push('}');
    tokens::parse_file(&line).map_err(anyhow::Error::msg)?;
    Ok(line)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_lets_the_token_in() {
        let new = |name: &str, segments: Option<&str>| NewArgs {
            name: name.to_owned(),
            role: "write".to_owned(),
            segments: segments.map(str::to_owned),
            expires: Some("2099-12-31".to_owned()),
            rate: Some(7),
            file: None,
        };
        let made = line(&new("o'neill: #1", Some("a'{2}|\\d+")), "trough_00").expect("a line");
        let token = tokens::parse_file(&made).expect("reads").remove(0);
        assert_eq!((&*token.name, token.rate), ("o'neill: #1", Some(7)));
        assert!(token.segments.expect("set").is_match("a''"));
        assert_eq!(token.sha256.as_slice(), Sha256::digest("trough_00").as_slice());
        assert!(line(&new("a", Some("(")), "trough_00").is_err());
    }
}
