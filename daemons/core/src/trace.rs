//! A statement's name on its way through the nodes: W3C's `traceparent`.

use std::{fmt, str::FromStr};

/// The header that carries a [`Trace`] with a request.
pub const TRACEPARENT: &str = "traceparent";
/// The header of an answer that holds the id of its [`Trace`].
pub const TRACE_HEADER: &str = "x-trough-trace";

/// Which statement a request belongs to, and which step of it asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Trace {
    id: u128,
    span: u64,
    sampled: bool,
}

/// A text that is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a traceparent is 00-TRACE-SPAN-FLAGS, with 32, 16 and 2 hexadecimal digits of which not all are 0")]
pub struct TraceError;

impl Trace {
    /// A new one of random numbers; whoever keeps spans shall keep its own.
    pub fn new(id: u128, span: u64) -> Self {
        // Zero means none.
        Self { id: id.max(1), span: span.max(1), sampled: true }
    }

    /// The statement's id.
    pub fn id(&self) -> TraceId {
        TraceId(self.id)
    }

    /// The id of the step that asks.
    pub fn span(&self) -> u64 {
        self.span
    }

    /// Whether spans are to be kept.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// The same statement, asked by another step of it.
    pub fn with_span(self, span: u64) -> Self {
        Self { span: span.max(1), ..self }
    }

    /// The same, with its spans kept or not.
    pub fn with_sampled(self, sampled: bool) -> Self {
        Self { sampled, ..self }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.id, self.span, u8::from(self.sampled))
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Trace {
    type Err = TraceError;

    /// Later versions may have more fields, which are passed over.
    fn from_str(text: &str) -> Result<Self, TraceError> {
        let mut parts = text.split('-');
        let mut hex = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let lower = part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if lower { u128::from_str_radix(part, 16).ok() } else { None }
        };
        let (version, id, span, flags) = (hex(2), hex(32), hex(16), hex(2));
        let rest = parts.next();
        match (version, id, span, flags) {
            (Some(version), Some(id), Some(span), Some(flags))
                if version != 0xff && id != 0 && span != 0 && (version > 0 || rest.is_none()) =>
            {
                Ok(Self { id, span: span as u64, sampled: flags & 1 == 1 })
            }
            _ => Err(TraceError),
        }
    }
}

/// The id of a [`Trace`], shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

impl TraceId {
    /// As a number.
    pub fn number(self) -> u128 {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace: Trace = text.parse().expect("a traceparent");
        assert_eq!(trace.to_string(), text);
        assert_eq!(trace.id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.span(), 0x00f0_67aa_0ba9_02b7);
        let off: Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00".parse().expect("a traceparent");
        assert!(trace.is_sampled() && !off.is_sampled());
        assert_eq!(Trace::new(0, 0).to_string().parse(), Ok(Trace::new(1, 1)));
        assert!("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more".parse::<Trace>().is_ok());
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(text.parse::<Trace>(), Err(TraceError), "{text}");
        }
    }
}
