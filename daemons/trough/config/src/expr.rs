//! Settings that depend on the segment: a constant, or an expression of `segment_id` in CEL.

use std::{fmt, sync::Arc};

use cel::{Context, Program, Value};
use trough_core::SegmentId;

/// The variable that an expression may use.
pub const VARIABLE: &str = "segment_id";

/// A constant, or a CEL expression of `segment_id`.
#[derive(Clone)]
pub enum SegmentExpr<T> {
    /// The same for every segment.
    Constant(T),
    /// To be evaluated.
    Cel {
        /// As it was written.
        source: Arc<str>,
        /// Compiled.
        program: Arc<Program>,
    },
}

/// An expression that gave no usable value for one segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{expression:?} for segment {segment:?}: {message}")]
pub struct ExprError {
    /// As it was written.
    pub expression: String,
    /// For which segment.
    pub segment: SegmentId,
    /// What went wrong.
    pub message: String,
}

impl<T: fmt::Debug> fmt::Debug for SegmentExpr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(value) => value.fmt(f),
            Self::Cel { source, .. } => source.fmt(f),
        }
    }
}

/// What a [`SegmentExpr`] can give.
pub trait ExprValue: Copy {
    /// The value, if `value` is one.
    fn from_cel(value: &Value) -> Option<Self>;
    /// What is expected, for messages.
    const WANTED: &'static str;
}

impl ExprValue for u32 {
    fn from_cel(value: &Value) -> Option<Self> {
        match value {
            Value::Int(i) => u32::try_from(*i).ok(),
            Value::UInt(u) => u32::try_from(*u).ok(),
            _ => None,
        }
    }
    const WANTED: &'static str = "a number of copies, 0 or more";
}

impl ExprValue for bool {
    fn from_cel(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(b) => Some(*b),
            _ => None,
        }
    }
    const WANTED: &'static str = "true or false";
}

impl<T: ExprValue> SegmentExpr<T> {
    /// Compiles `source`, which may use nothing but `segment_id`.
    ///
    /// # Errors
    /// A text that says what is wrong with it.
    pub fn compile(source: &str) -> Result<Self, String> {
        check_size(source)?;
        let program = Program::compile(source).map_err(|e| e.to_string().trim().to_owned())?;
        let unknown: Vec<String> =
            program.references().variables().into_iter().filter(|v| *v != VARIABLE).map(str::to_owned).collect();
        if let Some(name) = unknown.first() {
            return Err(format!("{name:?} is not known; the only variable is {VARIABLE}"));
        }
        if program.references().variables().is_empty() {
            let value = program.execute(&Context::default()).map_err(|e| e.to_string())?;
            let value = T::from_cel(&value).ok_or_else(|| format!("{value:?} is not {}", T::WANTED))?;
            return Ok(Self::Constant(value));
        }
        Ok(Self::Cel { source: source.into(), program: Arc::new(program) })
    }

    /// The value for `segment`.
    ///
    /// # Errors
    /// [`ExprError`] if the expression fails for it or gives another type.
    pub fn for_segment(&self, segment: &SegmentId) -> Result<T, ExprError> {
        match self {
            Self::Constant(value) => Ok(*value),
            Self::Cel { source, program } => {
                let fail = |message| ExprError { expression: source.to_string(), segment: segment.clone(), message };
                let mut context = Context::default();
                context.add_variable_from_value(VARIABLE, segment.as_str().to_owned());
                let value = program.execute(&context).map_err(|e| fail(e.to_string()))?;
                T::from_cel(&value).ok_or_else(|| fail(format!("{value:?} is not {}", T::WANTED)))
            }
        }
    }

    /// The constant, where it is one.
    pub fn constant(&self) -> Option<T> {
        match self {
            Self::Constant(value) => Some(*value),
            Self::Cel { .. } => None,
        }
    }
}

/// Evaluates arithmetic on constants (`16 * 1024`, also with Python's `**` between whole numbers).
///
/// # Errors
/// A text that says what is wrong with it.
pub(crate) fn arithmetic(source: &str) -> Result<f64, String> {
    check_size(source)?;
    let expanded = expand_powers(source)?;
    let program = Program::compile(&expanded).map_err(|_| format!("{source:?} is no number"))?;
    if !program.references().variables().is_empty() {
        return Err(format!("{source:?} is no number"));
    }
    match program.execute(&Context::default()).map_err(|e| format!("{source:?}: {e}"))? {
        Value::Int(i) => Ok(i as f64),
        Value::UInt(u) => Ok(u as f64),
        Value::Float(f) => Ok(f),
        _ => Err(format!("{source:?} is no number")),
    }
}

/// Replaces `a ** b` between whole numbers by its value: CEL has no power.
fn expand_powers(source: &str) -> Result<String, String> {
    let Some((left, right)) = source.rsplit_once("**") else { return Ok(source.to_owned()) };
    let bad = || format!("{source:?}: ** needs a whole number on both sides");
    let base_at = left.trim_end().trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let right = right.trim_start();
    let end = right.find(|c: char| !c.is_ascii_digit()).unwrap_or(right.len());
    let base: i64 = left[base_at..].trim().parse().map_err(|_| bad())?;
    let exponent: u32 = right[..end].parse().map_err(|_| bad())?;
    let value = base.checked_pow(exponent).ok_or_else(|| format!("{source:?} does not fit 64 bits"))?;
    expand_powers(&format!("{}{value}{}", &left[..base_at], &right[end..]))
}

/// The CEL equivalent of a Python lambda of one argument, as far as its parts have one.
pub(crate) fn translate_lambda(lambda: &str) -> String {
    let example = || format!("{VARIABLE}.startsWith('x') ? 1 : 2");
    if check_size(lambda).is_err() {
        return example();
    }
    let body = lambda.trim().trim_start_matches("lambda").trim_start();
    let (argument, body) = body.split_once(':').unwrap_or((VARIABLE, body));
    let cel = translate_conditional(&rename(body.trim(), argument.trim()));
    if check_size(&cel).is_ok() && Program::compile(&cel).is_ok() { cel } else { example() }
}

fn translate_conditional(python: &str) -> String {
    let python = python.trim();
    if let Some(at) = find_outside(python, " if ")
        && let Some(otherwise) = find_outside(&python[at + 4..], " else ")
    {
        let condition = &python[at + 4..at + 4 + otherwise];
        let rest = &python[at + 4 + otherwise + 6..];
        return format!(
            "{} ? {} : {}",
            translate_conditional(condition),
            translate_conditional(&python[..at]),
            translate_conditional(rest)
        );
    }
    python.to_owned()
}

/// Where `needle` stands outside quotes and brackets.
fn find_outside(text: &str, needle: &str) -> Option<usize> {
    let (mut quote, mut depth) = (None, 0i32);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') => depth -= 1,
            _ if depth == 0 && text[at..].starts_with(needle) => return Some(at),
            _ => {}
        }
    }
    None
}

/// Replaces Python's words by CEL's, outside quotes.
fn rename(python: &str, argument: &str) -> String {
    let mut out = String::with_capacity(python.len());
    let (mut quote, mut word) = (None, String::new());
    let flush = |word: &mut String, out: &mut String| {
        match word.as_str() {
            "" => {}
            w if w == argument => out.push_str(VARIABLE),
            "startswith" => out.push_str("startsWith"),
            "endswith" => out.push_str("endsWith"),
            "len" => out.push_str("size"),
            "and" => out.push_str("&&"),
            "or" => out.push_str("||"),
            "not" => out.push('!'),
            "True" => out.push_str("true"),
            "False" => out.push_str("false"),
            other => out.push_str(other),
        }
        word.clear();
    };
    for c in python.chars() {
        match quote {
            Some(q) => {
                out.push(c);
                if q == c {
                    quote = None;
                }
            }
            None if c.is_alphanumeric() || c == '_' => word.push(c),
            None => {
                flush(&mut word, &mut out);
                if matches!(c, '\'' | '"') {
                    quote = Some(c);
                }
                out.push(c);
            }
        }
    }
    flush(&mut word, &mut out);
    out
}

/// The parser and the evaluation recurse: what could exhaust their stack is refused.
fn check_size(source: &str) -> Result<(), String> {
    const MOST_BYTES: usize = 2_000;
    const DEEPEST: usize = 40;
    let mut depth = 0usize;
    let mut deepest = 0;
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if source.len() > MOST_BYTES || deepest > DEEPEST {
        return Err(format!("an expression may have {MOST_BYTES} bytes and {DEEPEST} brackets inside each other"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translates_the_lambdas_that_people_write() {
        for (python, cel) in [
            ("lambda segment_id: 1 if segment_id.startswith('a') else 2", "segment_id.startsWith('a') ? 1 : 2"),
            (
                "lambda s: int(s) < 1000 and not s.endswith('if ')",
                "int(segment_id) < 1000 && ! segment_id.endsWith('if ')",
            ),
            ("lambda segment_id: segment_id in ['a', 'b']", "segment_id in ['a', 'b']"),
            (
                "lambda s: 3 if len(s) > 4 else 2 if s == 'x' else 1",
                "size(segment_id) > 4 ? 3 : segment_id == 'x' ? 2 : 1",
            ),
        ] {
            assert_eq!(translate_lambda(python), cel);
        }
        let deep = format!("lambda s: {}", "[".repeat(100_000));
        assert_eq!(translate_lambda(&deep), "segment_id.startsWith('x') ? 1 : 2");
    }

    #[test]
    fn arithmetic_as_in_python() {
        assert_eq!(arithmetic("16*1024**3"), Ok(16.0 * 1024f64.powi(3)));
        assert_eq!(arithmetic("60 * 2"), Ok(120.0));
        assert_eq!(arithmetic("2 ** 3 ** 2"), Ok(512.0));
        assert!(arithmetic("os.cpu_count()").is_err());
        assert!(arithmetic("nonsense").is_err());
        assert!(arithmetic("é2**3").is_err() && arithmetic("é 2 ** 3").is_err());
        assert!(arithmetic(&"(".repeat(100_000)).is_err() && arithmetic(&"2**".repeat(100_000)).is_err());
    }

    #[test]
    fn expressions_are_checked_when_compiled() {
        let copies = SegmentExpr::<u32>::compile("segment_id.matches('^3') ? 3 : 1").expect("valid");
        let of = |id: &str| copies.for_segment(&SegmentId::new(id).expect("valid id"));
        assert_eq!(of("3x"), Ok(3));
        assert_eq!(of("4x"), Ok(1));
        assert!(SegmentExpr::<u32>::compile("segment > 3").expect_err("unknown").contains("segment_id"));
        assert!(SegmentExpr::<bool>::compile("3").is_err());
        assert!(SegmentExpr::<u32>::compile("3 +").is_err());
        assert!(
            SegmentExpr::<u32>::compile("int(segment_id)")
                .expect("valid")
                .for_segment(&SegmentId::new("x").expect("id"))
                .is_err()
        );
    }
}
