//! PostgreSQL's regular expressions as those of the crate `regex`, for the part of the two languages that means the same.
//! Whether a text matches does not depend on greediness, so the marks of non-greedy quantifiers are passed over.

/// A translated expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translated {
    /// In the language of the crate `regex`.
    pub pattern: String,
    /// Whether it means the same for ASCII texts only: it names classes of characters, or ignores case.
    pub ascii_only: bool,
}

/// Translates an expression; none if it uses what has no certain counterpart (look-around, back-references, options,
/// collating elements, escapes of positions), or if PostgreSQL would refuse it.
pub fn translate(pattern: &str, ignore_case: bool) -> Option<Translated> {
    /// Longer ones are rather left to PostgreSQL.
    const LIMIT: usize = 1000;
    if pattern.len() > LIMIT || pattern.starts_with("***") || pattern.starts_with("(?") && !pattern.starts_with("(?:") {
        return None;
    }
    let mut reader = Reader {
        chars: pattern.chars().collect(),
        at: 0,
        out: String::from(if ignore_case { "(?si)" } else { "(?s)" }),
        ascii_only: ignore_case,
        copies: 1,
    };
    reader.alternatives(0)?;
    (reader.at == reader.chars.len()).then_some(Translated { pattern: reader.out, ascii_only: reader.ascii_only })
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    out: String,
    ascii_only: bool,
    /// How often counted repetitions repeat what they repeat, multiplied: what an automaton for them takes.
    copies: u32,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        self.at += 1;
        self.chars.get(self.at - 1).copied()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// Branches up to a closing parenthesis or the end.
    fn alternatives(&mut self, depth: usize) -> Option<()> {
        if depth > 50 {
            return None;
        }
        loop {
            while !matches!(self.peek(), None | Some('|' | ')')) {
                self.piece(depth)?;
            }
            if !self.take('|') {
                return Some(());
            }
            self.out.push('|');
        }
    }

    /// An atom with its quantifier, or an anchor.
    fn piece(&mut self, depth: usize) -> Option<()> {
        match self.next()? {
            anchor @ ('^' | '$') => {
                self.out.push_str(if anchor == '^' { "\\A" } else { "\\z" });
                // A quantifier cannot follow.
                return (!matches!(self.peek(), Some('*' | '+' | '?' | '{'))).then_some(());
            }
            '(' => {
                if self.take('?') && !self.take(':') {
                    return None;
                }
                self.out.push_str("(?:");
                self.alternatives(depth + 1)?;
                self.take(')').then(|| self.out.push(')'))?;
            }
            '[' => self.bracket()?,
            '.' => self.out.push('.'),
            '\\' => {
                let class = match self.next()? {
                    'd' => "[0-9]",
                    'D' => "[^0-9]",
                    's' => "[\\t-\\r ]",
                    'S' => "[^\\t-\\r ]",
                    'w' => "[0-9A-Za-z_]",
                    'W' => "[^0-9A-Za-z_]",
                    'n' => return self.literal('\n'),
                    'r' => return self.literal('\r'),
                    't' => return self.literal('\t'),
                    c if c.is_ascii_punctuation() => return self.literal(c),
                    _ => return None,
                };
                self.ascii_only = true;
                self.out.push_str(class);
            }
            '*' | '+' | '?' | '{' | ')' => return None,
            c => return self.literal(c),
        }
        self.quantifier()
    }

    fn literal(&mut self, c: char) -> Option<()> {
        push(&mut self.out, c);
        self.quantifier()
    }

    fn quantifier(&mut self) -> Option<()> {
        match self.peek() {
            Some(c @ ('*' | '+' | '?')) => {
                self.at += 1;
                self.out.push(c);
            }
            Some('{') => {
                self.at += 1;
                let low = self.number()?;
                let (bounds, most) = if self.take('}') {
                    (format!("{{{low}}}"), low)
                } else {
                    self.take(',').then_some(())?;
                    if self.take('}') {
                        (format!("{{{low},}}"), low)
                    } else {
                        let high = self.number().filter(|high| low <= *high)?;
                        self.take('}').then_some(())?;
                        (format!("{{{low},{high}}}"), high)
                    }
                };
                self.copies = self.copies.checked_mul(most.max(1)).filter(|n| *n <= 1000)?;
                self.out.push_str(&bounds);
            }
            _ => return Some(()),
        }
        self.take('?');
        // A second quantifier is an error.
        (!matches!(self.peek(), Some('*' | '+' | '?' | '{'))).then_some(())
    }

    fn number(&mut self) -> Option<u32> {
        let mut number = None;
        while let Some(digit) = self.peek().and_then(|c| c.to_digit(10)) {
            self.at += 1;
            number = Some(number.unwrap_or(0) * 10 + digit).filter(|n| *n <= 255)?.into();
        }
        number
    }

    /// A bracket expression, behind its opening.
    fn bracket(&mut self) -> Option<()> {
        let negated = self.take('^');
        self.out.push_str(if negated { "[^" } else { "[" });
        let start = self.at;
        loop {
            let first = match self.next()? {
                ']' if self.at > start + 1 => break,
                '[' if self.peek() == Some(':') => {
                    self.class()?;
                    continue;
                }
                '[' if matches!(self.peek(), Some('.' | '=')) => return None,
                c => self.member(c)?,
            };
            if self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|c| *c != ']') {
                self.at += 1;
                let last = match self.next()? {
                    '[' => return None,
                    c => self.member(c)?,
                };
                if first > last {
                    return None;
                }
                push(&mut self.out, first);
                self.out.push('-');
                push(&mut self.out, last);
                // `a-b-c` is an error.
                if self.peek() == Some('-') && self.chars.get(self.at + 1) != Some(&']') {
                    return None;
                }
            } else {
                push(&mut self.out, first);
            }
        }
        self.out.push(']');
        Some(())
    }

    /// A character within brackets, where the backslash escapes too.
    fn member(&mut self, c: char) -> Option<char> {
        match c {
            '\\' => self.next().filter(char::is_ascii_punctuation),
            // Only first and last is a hyphen certain to be itself.
            '-' if self.at > 1
                && !matches!(self.chars.get(self.at - 2), Some('[' | '^'))
                && self.peek() != Some(']') =>
            {
                None
            }
            c => Some(c),
        }
    }

    /// `[:name:]` behind its first bracket.
    fn class(&mut self) -> Option<()> {
        const CLASSES: &[(&str, &str)] = &[
            ("alnum", "0-9A-Za-z"),
            ("alpha", "A-Za-z"),
            ("blank", "\\t "),
            ("digit", "0-9"),
            ("lower", "a-z"),
            ("space", "\\t-\\r "),
            ("upper", "A-Z"),
            ("xdigit", "0-9A-Fa-f"),
        ];
        let rest: String = self.chars[self.at..].iter().take(10).collect();
        let name = rest.strip_prefix(':')?.split_once(":]")?.0;
        let (_, members) = CLASSES.iter().find(|(known, _)| *known == name)?;
        self.at += name.chars().count() + 3;
        self.ascii_only = true;
        self.out.push_str(members);
        Some(())
    }
}

fn push(out: &mut String, c: char) {
    if c.is_ascii_alphanumeric() || c == ' ' {
        out.push(c);
    } else {
        out.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
    }
}

#[cfg(test)]
mod tests {
    use super::translate;

    #[test]
    fn patterns() {
        for (pattern, translated) in [
            ("^ab+c$", Some("(?s)\\Aab+c\\z")),
            ("a|b*?", Some("(?s)a|b*")),
            ("(ab){2,3}", Some("(?s)(?:ab){2,3}")),
            ("[]a-c^]", Some("(?s)[\\u{5d}a-c\\u{5e}]")),
            ("[^é-]", Some("(?s)[^\\u{e9}\\u{2d}]")),
            ("\\d\\.\\S", Some("(?s)[0-9]\\u{2e}[^\\t-\\r ]")),
            ("[[:alpha:]_]", Some("(?s)[A-Za-z\\u{5f}]")),
            ("", Some("(?s)")),
            ("a|", Some("(?s)a|")),
            ("(", None),
            (")", None),
            ("a**", None),
            ("*a", None),
            ("^*", None),
            ("a{", None),
            ("a{3,2}", None),
            ("(?i)a", None),
            ("(?=a)", None),
            ("(a)\\1", None),
            ("\\ya", None),
            ("[a", None),
            ("[[.a.]]", None),
            ("[b-a]", None),
            ("***=a", None),
        ] {
            assert_eq!(translate(pattern, false).map(|t| t.pattern).as_deref(), translated, "{pattern}");
        }
        assert!(translate("a", true).expect("simple").ascii_only);
        assert!(!translate("a.c", false).expect("simple").ascii_only);
    }
}
