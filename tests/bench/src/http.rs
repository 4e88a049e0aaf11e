//! A blocking HTTP/1.1 client that does as little as possible, so that the machine's cores go to the server under test.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use anyhow::{Context as _, Result, bail};

/// One keep-alive connection.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
    body: Vec<u8>,
    line: String,
}

impl Connection {
    /// Connects to `host:port`.
    pub(crate) fn open(host: &str) -> Result<Self> {
        let stream = TcpStream::connect(host).with_context(|| format!("connect to {host}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host: host.into(), body: Vec::new(), line: String::new() })
    }

    /// Sends one POST and returns status and body.
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> Result<(u16, &[u8])> {
        let mut request = Vec::with_capacity(256 + body.len());
        write!(request, "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n", self.host, body.len())?;
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request)?;
        self.read_line()?;
        let status = self.line.split(' ').nth(1).and_then(|s| s.parse().ok()).context("status line")?;
        let (mut length, mut chunked) = (0, false);
        loop {
            self.read_line()?;
            let line = self.line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            } else if let Some(n) = line.strip_prefix("content-length:") {
                length = n.trim().parse()?;
            } else if line.starts_with("transfer-encoding:") && line.contains("chunked") {
                chunked = true;
            }
        }
        self.body.clear();
        if chunked {
            loop {
                self.read_line()?;
                let size = usize::from_str_radix(self.line.trim(), 16).context("chunk size")?;
                self.take(size)?;
                self.read_line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            self.take(length)?;
        }
        Ok((status, &self.body))
    }

    fn read_line(&mut self) -> Result<()> {
        self.line.clear();
        if self.stream.read_line(&mut self.line)? == 0 {
            bail!("{} closed the connection", self.host);
        }
        Ok(())
    }

    fn take(&mut self, size: usize) -> Result<()> {
        let start = self.body.len();
        self.body.resize(start + size, 0);
        self.stream.read_exact(&mut self.body[start..])?;
        Ok(())
    }
}
