//! Text-file cases of the shipping rules. Each file in tests/cases declares a table, then asks; the answer stands under
//! `----`. `REWRITE=1 cargo test -p trough-pushdown` writes the answers anew, to be reviewed as a diff.
//!
//! Expressions: a column's name; `$1:type` a value; `$1:text='x'` a constant; `$1:int8[3]` an array of three;
//! `(op OID a b)`, `(any OID a array)`, `(all OID a array)`, `(and …)`, `(or …)`, `(not a)`, `(isnull a)`,
//! `(notnull a)`, `(istrue a)`, `(distinct OID a b)`, `(call OID a b)`, `(case type when then when then else)`,
//! `(coalesce type a b)`, `(nullif OID a b)`, `(greatest type a b)`; `$1:int4=5` an integer constant. `scalar` instead of
//! `ship` prints a scalar. `!c` before an operator sets the collation "C".

use std::{fmt::Write as _, fs, path::Path};

use trough_pushdown::{
    BoolTest, Collation, Column, Encoding, Expr, InvalidText, Keys, Literal, Scope, Shipper, Storage, Table, Val,
    aggregate::{Call, group_key, whole},
    oid,
};

const TYPES: &[(&str, u32, u32)] = &[
    ("bool", oid::BOOL, 1000),
    ("bytea", oid::BYTEA, 1001),
    ("int2", oid::INT2, 1005),
    ("int4", oid::INT4, 1007),
    ("int8", oid::INT8, 1016),
    ("float4", oid::FLOAT4, 1021),
    ("float8", oid::FLOAT8, 1022),
    ("text", oid::TEXT, 1009),
    ("date", oid::DATE, 1182),
    ("timestamp", oid::TIMESTAMP, 1115),
    ("timestamptz", oid::TIMESTAMPTZ, 1185),
    ("uuid", oid::UUID, 2951),
    ("numeric", oid::NUMERIC, 1231),
];

fn type_oid(name: &str) -> (u32, u32) {
    let found = TYPES.iter().find(|t| t.0 == name).unwrap_or_else(|| panic!("type {name}"));
    (found.1, found.2)
}

fn column(line: &str) -> Column {
    let mut words = line.split_whitespace();
    let (name, kind) = (words.next().expect("name"), words.next().expect("type"));
    let (type_oid, _) = type_oid(kind);
    let mut column = Column {
        name: name.into(),
        table: "t".into(),
        alias: None,
        type_oid,
        encoding: Encoding::default_for(type_oid),
        storage: Storage::Unknown,
        trusted: false,
        invalid_text: InvalidText::Error,
        segment: false,
    };
    for word in words {
        match word.split_once('=') {
            Some(("storage", v)) => column.storage = Storage::parse(v).expect("storage"),
            Some(("encoding", v)) => column.encoding = Encoding::parse(v, type_oid).expect("encoding"),
            Some(("invalid_text", v)) => column.invalid_text = InvalidText::parse(v).expect("invalid_text"),
            None if word == "trusted" => column.trusted = true,
            None if word == "segment" => column.segment = true,
            _ => panic!("column word {word}"),
        }
    }
    column
}

struct Parser<'a> {
    words: Vec<&'a str>,
    at: usize,
    table: &'a Table,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, table: &'a Table) -> Self {
        let mut words = Vec::new();
        let (mut start, mut quoted) = (None, false);
        for (i, c) in text.char_indices() {
            if c == '\'' {
                quoted = !quoted;
            }
            let ends = !quoted && (c.is_whitespace() || c == '(' || c == ')');
            if ends && let Some(s) = start.take() {
                words.push(&text[s..i]);
            }
            if !quoted && (c == '(' || c == ')') {
                words.push(&text[i..=i]);
            } else if !ends && start.is_none() {
                start = Some(i);
            }
        }
        words.extend(start.map(|s| &text[s..]));
        Self { words, at: 0, table }
    }

    fn word(&mut self) -> &'a str {
        self.at += 1;
        self.words[self.at - 1]
    }

    fn args(&mut self) -> Vec<Expr> {
        let mut args = Vec::new();
        while self.words[self.at] != ")" {
            args.push(self.expr());
        }
        self.at += 1;
        args
    }

    fn operator(&mut self) -> (u32, u32) {
        let mut collation = 100;
        let mut word = self.word();
        if word == "!c" {
            collation = oid::C_COLLATION;
            word = self.word();
        }
        (word.parse().expect("operator"), collation)
    }

    fn expr(&mut self) -> Expr {
        match self.word() {
            "(" => {
                let name = self.word();
                let one = |mut args: Vec<Expr>| Box::new(args.remove(0));
                match name {
                    "op" => {
                        let (operator, collation) = self.operator();
                        Expr::Op { operator, collation, args: self.args() }
                    }
                    "distinct" => {
                        let (operator, collation) = self.operator();
                        Expr::Distinct { operator, collation, args: self.args() }
                    }
                    "any" | "all" => {
                        let (operator, collation) = self.operator();
                        let mut args = self.args();
                        let Some(Expr::Value(array)) = args.pop() else { panic!("array") };
                        Expr::AnyAll { operator, any: name == "any", collation, left: one(args), array }
                    }
                    "nullif" => {
                        let (operator, collation) = self.operator();
                        Expr::NullIf { operator, collation, args: self.args() }
                    }
                    "call" => {
                        let (function, collation) = self.operator();
                        Expr::Call { function, collation, args: self.args() }
                    }
                    "case" => {
                        let kind = type_oid(self.word()).0;
                        let mut args = self.args();
                        let otherwise = Box::new(args.pop().expect("ELSE"));
                        let mut rest = args.into_iter();
                        let mut whens = Vec::new();
                        while let (Some(when), Some(then)) = (rest.next(), rest.next()) {
                            whens.push((when, then));
                        }
                        Expr::Case { whens, otherwise, type_oid: kind }
                    }
                    "coalesce" => {
                        let kind = type_oid(self.word()).0;
                        Expr::Coalesce { args: self.args(), type_oid: kind }
                    }
                    "greatest" | "least" => {
                        let kind = type_oid(self.word()).0;
                        let greatest = name == "greatest";
                        Expr::MinMax { greatest, collation: oid::C_COLLATION, args: self.args(), type_oid: kind }
                    }
                    "and" => Expr::And(self.args()),
                    "or" => Expr::Or(self.args()),
                    "not" => Expr::Not(one(self.args())),
                    "isnull" => Expr::IsNull(one(self.args())),
                    "notnull" => Expr::IsNotNull(one(self.args())),
                    "istrue" => Expr::BoolTest(BoolTest::True, one(self.args())),
                    "unknown" => Expr::BoolTest(BoolTest::Unknown, one(self.args())),
                    other => panic!("form {other}"),
                }
            }
            "opaque" => Expr::Opaque,
            value if value.starts_with('$') => Expr::Value(value_of(value)),
            name => {
                let named = |c: &Option<Column>| c.as_ref().is_some_and(|c| c.name == name);
                Expr::Column(self.table.columns.iter().position(named).unwrap_or_else(|| panic!("column {name}")))
            }
        }
    }
}

fn value_of(text: &str) -> Val {
    let (slot, kind) = text[1..].split_once(':').expect("$N:type");
    let slot = slot.parse::<usize>().expect("slot") - 1;
    if let Some((kind, len)) = kind.split_once('[') {
        let len = len.trim_end_matches(']');
        let literal = len.parse().ok().map(|len| Literal::Array { len, nulls: false });
        return Val { slot, type_oid: type_oid(kind).1, literal };
    }
    match kind.split_once('=') {
        Some((kind, constant)) => Val { slot, type_oid: type_oid(kind).0, literal: Some(literal(kind, constant)) },
        None => Val { slot, type_oid: type_oid(kind).0, literal: None },
    }
}

fn literal(kind: &str, constant: &str) -> Literal {
    match (kind, constant) {
        (_, "null") => Literal::Null,
        ("int2" | "int4" | "int8" | "bool", number) => Literal::Int(number.parse().expect("integer")),
        ("float4" | "float8", number) => Literal::Float(number.parse().expect("number")),
        (_, text) => Literal::Text(text.trim_matches('\'').to_owned()),
    }
}

fn collation(oid: u32) -> Collation {
    let c = oid == oid::C_COLLATION;
    Collation { deterministic: oid != 0, bytewise: c, only_ascii: c, ascii_case: true }
}

/// The answer to one question.
fn answer(question: &str, table: &Table) -> String {
    let (verb, rest) = question.split_once(' ').unwrap_or((question, ""));
    let scope = Scope::of([table]);
    let mut shipper = Shipper::new(&scope, &collation);
    let mut out = String::new();
    match verb {
        "ship" => {
            let expr = Parser::new(rest, table).expr();
            match shipper.condition(&expr) {
                Ok(s) => writeln!(out, "{}: {}", if s.exact { "exact" } else { "superset" }, s.sql).expect("a String"),
                Err(refusal) => writeln!(out, "refused: {refusal}").expect("a String"),
            }
        }
        "scalar" => {
            let expr = Parser::new(rest, table).expr();
            match shipper.scalar(&expr) {
                Ok(s) => {
                    let raises = if s.raises { ", raises" } else { "" };
                    writeln!(out, "{:?} {:?}{raises}: {}", s.family, s.encoding, s.sql).expect("a String");
                }
                Err(refusal) => writeln!(out, "refused: {refusal}").expect("a String"),
            }
        }
        "keys" => {
            let expr = Parser::new(rest, table).expr();
            writeln!(out, "{:?}", Keys::of(&expr, &scope, &collation)).expect("a String");
        }
        "group" | "group-whole" => {
            let expr = Parser::new(rest, table).expr();
            match group_key(&expr, 100, verb == "group", &mut shipper) {
                Ok(key) => writeln!(out, "{}", key.sql).expect("a String"),
                Err(refusal) => writeln!(out, "refused: {refusal}").expect("a String"),
            }
        }
        "agg" | "agg-distinct" => {
            let (head, filter) = rest.split_once(" filter ").map_or((rest, None), |(h, f)| (h, Some(f)));
            let mut parser = Parser::new(head, table);
            let (function, collation) = parser.operator();
            let mut args = Vec::new();
            while parser.at < parser.words.len() {
                args.push(parser.expr());
            }
            let filter = filter.map(|f| Parser::new(f, table).expr());
            let distinct = verb == "agg-distinct";
            match whole(&Call { function, collation, args, filter, distinct, special: false }, &mut shipper) {
                Ok(aggregate) => {
                    writeln!(out, "{:?}", aggregate.state).expect("a String");
                    for column in aggregate.columns {
                        writeln!(out, "  {:?}: {}", column.reduce, column.map).expect("a String");
                    }
                }
                Err(refusal) => writeln!(out, "refused: {refusal}").expect("a String"),
            }
        }
        other => panic!("question {other}"),
    }
    for (i, param) in shipper.params().iter().enumerate() {
        let element = param.element.map(|e| format!("[{e}]")).unwrap_or_default();
        writeln!(out, "  ?{} = ${}{element} {:?}", i + 1, param.slot + 1, param.encode).expect("a String");
    }
    out
}

#[test]
fn cases() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut wrong = Vec::new();
    for entry in fs::read_dir(&dir).expect("cases") {
        let path = entry.expect("entry").path();
        let text = fs::read_to_string(&path).expect("case file");
        let mut table = Table { name: "t".into(), columns: Vec::new() };
        let mut out = String::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            writeln!(out, "{line}").expect("a String");
            if let Some(declared) = line.strip_prefix("column ") {
                table.columns.push(Some(column(declared)));
            } else if !line.is_empty() && !line.starts_with('#') {
                let mut expected = String::new();
                assert_eq!(lines.next(), Some("----"), "{}: after {line}", path.display());
                while let Some(given) = lines.next_if(|l| !l.is_empty()) {
                    writeln!(expected, "{given}").expect("a String");
                }
                let got = answer(line, &table);
                if got != expected {
                    wrong.push(format!("{}: {line}\nexpected:\n{expected}got:\n{got}", path.display()));
                }
                write!(out, "----\n{got}").expect("a String");
            }
        }
        if std::env::var_os("REWRITE").is_some() {
            fs::write(&path, out).expect("write the case file");
        }
    }
    assert!(std::env::var_os("REWRITE").is_some() || wrong.is_empty(), "{}", wrong.join("\n"));
}
