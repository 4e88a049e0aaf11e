//! Functions by OID, as in `pg_proc.dat`, and what they are in SQLite. Functions named `trough_…` are defined by the workers
//! with PostgreSQL's meaning.

use crate::{
    column::Encoding,
    expr::Expr,
    oid::{self, Oid},
    rules::Family,
    scalar::{Range, Term, type_range},
    ship::{Refusal, Shipper},
};

/// What a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fun {
    /// Integer arithmetic with a result of this type.
    Int(Int, Oid),
    /// An integer as an integer of this type.
    IntAs(Oid),
    /// `int4(bool)`
    BoolToInt,
    /// `bool(int4)`
    IntToBool,
    /// An integer, or `real`, as `double precision`.
    ToFloat,
    /// Arithmetic on `double precision`: `+ - * /`.
    Float(&'static str),
    /// `abs` of `double precision`.
    FloatAbs,
    /// `-` of `double precision`.
    FloatMinus,
    /// A worker's function over texts and integers.
    Text(&'static str, &'static [Arg], Oid),
    /// `lower`, `upper`
    Folded(&'static str),
    /// `||` of texts
    Concat,
    /// `octet_length(text)`
    TextBytes,
    /// `length(bytea)`
    BlobLength,
    /// `timestamp(date)`, `date(timestamp)`
    TimeAs(Oid),
    /// `date_trunc(text, timestamp)`, `date_trunc(text, timestamptz, text)`
    Truncate(Oid),
    /// `timezone(text, timestamp)`, `timezone(text, timestamptz)`
    Zone(Family, Oid),
    /// `extract(text, date)`, `extract(text, timestamp)`
    Extract,
    /// `date_part(text, timestamp)`
    DatePart,
    /// A numeric as an integer or a double.
    NumericAs(Oid),
    /// `int4(float8)`
    FloatToInt,
}

/// An operator of integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Int {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Minus,
    Plus,
    Abs,
    And,
    Or,
    Xor,
    Not,
}

/// An argument of a worker's function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arg {
    /// A text.
    Text,
    /// A text that is searched for.
    Sought,
    /// An integer.
    Int,
    /// An integer that is negative only where PostgreSQL raises an error.
    Length,
    /// An integer that is 0 only where PostgreSQL raises an error.
    Place,
}

use Arg::{Length, Place, Sought, Text};
use Int::{Abs, Add, And, Div, Minus, Mod, Mul, Not, Or, Plus, Sub, Xor};

/// Sorted by OID.
static FUNCTIONS: &[(Oid, Fun)] = &[
    (141, Fun::Int(Mul, oid::INT4)),
    (152, Fun::Int(Mul, oid::INT2)),
    (153, Fun::Int(Div, oid::INT2)),
    (154, Fun::Int(Div, oid::INT4)),
    (155, Fun::Int(Mod, oid::INT2)),
    (156, Fun::Int(Mod, oid::INT4)),
    (170, Fun::Int(Mul, oid::INT4)),
    (171, Fun::Int(Mul, oid::INT4)),
    (172, Fun::Int(Div, oid::INT4)),
    (173, Fun::Int(Div, oid::INT4)),
    (176, Fun::Int(Add, oid::INT2)),
    (177, Fun::Int(Add, oid::INT4)),
    (178, Fun::Int(Add, oid::INT4)),
    (179, Fun::Int(Add, oid::INT4)),
    (180, Fun::Int(Sub, oid::INT2)),
    (181, Fun::Int(Sub, oid::INT4)),
    (182, Fun::Int(Sub, oid::INT4)),
    (183, Fun::Int(Sub, oid::INT4)),
    (212, Fun::Int(Minus, oid::INT4)),
    (213, Fun::Int(Minus, oid::INT2)),
    (216, Fun::Float("*")),
    (217, Fun::Float("/")),
    (218, Fun::Float("+")),
    (219, Fun::Float("-")),
    (220, Fun::FloatMinus),
    (221, Fun::FloatAbs),
    (235, Fun::ToFloat),
    (279, Fun::Float("*")),
    (280, Fun::Float("/")),
    (281, Fun::Float("+")),
    (282, Fun::Float("-")),
    (283, Fun::Float("*")),
    (284, Fun::Float("/")),
    (285, Fun::Float("+")),
    (286, Fun::Float("-")),
    (311, Fun::ToFloat),
    (313, Fun::IntAs(oid::INT4)),
    (314, Fun::IntAs(oid::INT2)),
    (316, Fun::ToFloat),
    (317, Fun::FloatToInt),
    (462, Fun::Int(Minus, oid::INT8)),
    (463, Fun::Int(Add, oid::INT8)),
    (464, Fun::Int(Sub, oid::INT8)),
    (465, Fun::Int(Mul, oid::INT8)),
    (466, Fun::Int(Div, oid::INT8)),
    (480, Fun::IntAs(oid::INT4)),
    (481, Fun::IntAs(oid::INT8)),
    (482, Fun::ToFloat),
    (714, Fun::IntAs(oid::INT2)),
    (720, Fun::BlobLength),
    (754, Fun::IntAs(oid::INT8)),
    (837, Fun::Int(Add, oid::INT8)),
    (838, Fun::Int(Sub, oid::INT8)),
    (839, Fun::Int(Mul, oid::INT8)),
    (840, Fun::Int(Div, oid::INT8)),
    (841, Fun::Int(Add, oid::INT8)),
    (849, Fun::Text("trough_position", &[Text, Sought], oid::INT4)),
    (868, Fun::Text("trough_position", &[Text, Sought], oid::INT4)),
    (870, Fun::Folded("trough_lower")),
    (871, Fun::Folded("trough_upper")),
    (875, Fun::Text("trough_ltrim", &[Text, Text], oid::TEXT)),
    (876, Fun::Text("trough_rtrim", &[Text, Text], oid::TEXT)),
    (877, Fun::Text("trough_substr", &[Text, Arg::Int, Length], oid::TEXT)),
    (878, Fun::Text("trough_translate", &[Text, Text, Text], oid::TEXT)),
    (881, Fun::Text("trough_ltrim", &[Text], oid::TEXT)),
    (882, Fun::Text("trough_rtrim", &[Text], oid::TEXT)),
    (883, Fun::Text("trough_substr", &[Text, Arg::Int], oid::TEXT)),
    (884, Fun::Text("trough_btrim", &[Text, Text], oid::TEXT)),
    (885, Fun::Text("trough_btrim", &[Text], oid::TEXT)),
    (936, Fun::Text("trough_substr", &[Text, Arg::Int, Length], oid::TEXT)),
    (937, Fun::Text("trough_substr", &[Text, Arg::Int], oid::TEXT)),
    (940, Fun::Int(Mod, oid::INT2)),
    (941, Fun::Int(Mod, oid::INT4)),
    (942, Fun::Int(Sub, oid::INT8)),
    (943, Fun::Int(Mul, oid::INT8)),
    (945, Fun::Int(Mod, oid::INT8)),
    (947, Fun::Int(Mod, oid::INT8)),
    (948, Fun::Int(Div, oid::INT8)),
    (1159, Fun::Zone(Family::Timestamptz, oid::TIMESTAMP)),
    (1230, Fun::Int(Abs, oid::INT8)),
    (1251, Fun::Int(Abs, oid::INT4)),
    (1253, Fun::Int(Abs, oid::INT2)),
    (1258, Fun::Concat),
    (1274, Fun::Int(Add, oid::INT8)),
    (1275, Fun::Int(Sub, oid::INT8)),
    (1276, Fun::Int(Mul, oid::INT8)),
    (1277, Fun::Int(Div, oid::INT8)),
    (1278, Fun::Int(Add, oid::INT8)),
    (1279, Fun::Int(Sub, oid::INT8)),
    (1280, Fun::Int(Mul, oid::INT8)),
    (1281, Fun::Int(Div, oid::INT8)),
    (1284, Fun::Truncate(oid::TIMESTAMPTZ)),
    (1317, Fun::Text("trough_length", &[Text], oid::INT4)),
    (1369, Fun::Text("trough_length", &[Text], oid::INT4)),
    (1374, Fun::TextBytes),
    (1381, Fun::Text("trough_length", &[Text], oid::INT4)),
    (1395, Fun::FloatAbs),
    (1396, Fun::Int(Abs, oid::INT8)),
    (1397, Fun::Int(Abs, oid::INT4)),
    (1398, Fun::Int(Abs, oid::INT2)),
    (1744, Fun::NumericAs(oid::INT4)),
    (1746, Fun::NumericAs(oid::FLOAT8)),
    (1779, Fun::NumericAs(oid::INT8)),
    (1892, Fun::Int(And, oid::INT2)),
    (1893, Fun::Int(Or, oid::INT2)),
    (1894, Fun::Int(Xor, oid::INT2)),
    (1895, Fun::Int(Not, oid::INT2)),
    (1898, Fun::Int(And, oid::INT4)),
    (1899, Fun::Int(Or, oid::INT4)),
    (1900, Fun::Int(Xor, oid::INT4)),
    (1901, Fun::Int(Not, oid::INT4)),
    (1904, Fun::Int(And, oid::INT8)),
    (1905, Fun::Int(Or, oid::INT8)),
    (1906, Fun::Int(Xor, oid::INT8)),
    (1907, Fun::Int(Not, oid::INT8)),
    (1910, Fun::Int(Plus, oid::INT8)),
    (1911, Fun::Int(Plus, oid::INT2)),
    (1912, Fun::Int(Plus, oid::INT4)),
    (2010, Fun::BlobLength),
    (2020, Fun::Truncate(oid::TIMESTAMP)),
    (2021, Fun::DatePart),
    (2024, Fun::TimeAs(oid::TIMESTAMP)),
    (2029, Fun::TimeAs(oid::DATE)),
    (2069, Fun::Zone(Family::Timestamp, oid::TIMESTAMPTZ)),
    (2087, Fun::Text("trough_replace", &[Text, Sought, Text], oid::TEXT)),
    (2088, Fun::Text("trough_split_part", &[Text, Sought, Place], oid::TEXT)),
    (2557, Fun::IntToBool),
    (2558, Fun::BoolToInt),
    (3060, Fun::Text("trough_left", &[Text, Arg::Int], oid::TEXT)),
    (3061, Fun::Text("trough_right", &[Text, Arg::Int], oid::TEXT)),
    (3062, Fun::Text("trough_reverse", &[Text], oid::TEXT)),
    (3696, Fun::Text("trough_starts_with", &[Text, Sought], oid::BOOL)),
    (6199, Fun::Extract),
    (6202, Fun::Extract),
];

impl Shipper<'_> {
    /// A function call.
    pub(crate) fn call(&mut self, function: Oid, collation: Oid, args: &[Expr]) -> Result<Term, Refusal> {
        let at = FUNCTIONS.binary_search_by_key(&function, |(oid, _)| *oid);
        let at = at.map_err(|_| Refusal("a function without a rule"))?;
        match (FUNCTIONS[at].1, args) {
            (Fun::Int(op, result), args) => self.integers(op, result, args),
            (Fun::IntAs(result), [arg]) => {
                let term = self.term_of(arg, Family::Int)?;
                self.in_range(term.sql, term.range.unwrap_or(WIDEST), result)
            }
            (Fun::BoolToInt, [arg]) => {
                let term = self.term_of(arg, Family::Bool)?;
                Ok(Term { range: Some((0, 1)), ..Term::new(term.sql, oid::INT4)? })
            }
            (Fun::IntToBool, [arg]) => {
                let term = self.term_of(arg, Family::Int)?;
                Term::new(format!("(({}) <> 0)", term.sql), oid::BOOL)
            }
            (Fun::ToFloat, [arg]) => {
                let term = self.term(arg)?;
                match term.family {
                    Family::Int => Term::new(format!("CAST({} AS REAL)", term.sql), oid::FLOAT8),
                    Family::Float => Ok(Term { type_oid: oid::FLOAT8, ..term }),
                    _ => Err(Refusal("types of different families")),
                }
            }
            (Fun::Float(op), [a, b]) => {
                let (a, b) = (self.term_of(a, Family::Float)?, self.term_of(b, Family::Float)?);
                let operands = format!("'{op}', {}, {}", a.sql, b.sql);
                let sql = if self.raises() {
                    self.raised();
                    format!("trough_float({operands})")
                } else {
                    self.doubts.push(format!("trough_float_fails({operands})"));
                    format!("trough_float_or_null({operands})")
                };
                Ok(Term { nan: true, ..Term::new(sql, oid::FLOAT8)? })
            }
            (Fun::FloatAbs | Fun::FloatMinus, [arg]) => {
                let term = self.term_of(arg, Family::Float)?;
                if term.nan || term.type_oid != oid::FLOAT8 {
                    return Err(Refusal("SQLite cannot compute with NaN"));
                }
                let sql = match FUNCTIONS[at].1 {
                    Fun::FloatAbs => format!("abs({})", term.sql),
                    _ => format!("(-({}))", term.sql),
                };
                Ok(Term { sql, ..term })
            }
            (Fun::Text(name, kinds, result), args) if kinds.len() == args.len() => {
                self.text_function(name, kinds, result, collation, args)
            }
            (Fun::Folded(name), [arg]) => {
                let term = self.term_of(arg, Family::Text)?;
                self.folds(collation, &term.sql)?;
                Term::new(format!("{name}({})", term.sql), oid::TEXT)
            }
            (Fun::Concat, [a, b]) => {
                let (a, b) = (self.term_of(a, Family::Text)?, self.term_of(b, Family::Text)?);
                Term::new(format!("({} || {})", a.sql, b.sql), oid::TEXT)
            }
            (Fun::TextBytes, [arg]) if (self.collation)(oid::C_COLLATION).bytewise => {
                let term = self.term_of(arg, Family::Text)?;
                self.rely_on_bytes();
                Term::new(format!("length(CAST({} AS BLOB))", term.sql), oid::INT4)
            }
            (Fun::BlobLength, [arg]) => {
                let term = self.term_of(arg, Family::Bytea)?;
                Term::new(format!("length({})", term.sql), oid::INT4)
            }
            (Fun::TimeAs(result), [arg]) => {
                let term = crate::scalar::instant(self.term(arg)?)?;
                let (from, sql) = match result {
                    oid::DATE => (Family::Timestamp, format!("trough_trunc('day', {})", term.sql)),
                    _ => (Family::Date, term.sql),
                };
                if term.family != from {
                    return Err(Refusal("types of different families"));
                }
                Term::new(sql, result)
            }
            (Fun::Truncate(result), [unit, arg]) => self.truncate(unit, arg, None, result),
            (Fun::Truncate(result), [unit, arg, zone]) => self.truncate(unit, arg, Some(zone), result),
            (Fun::Zone(from, to), [zone, arg]) => self.at_utc(zone, arg, from, to),
            (Fun::Extract, args) => self.extract(&Expr::Call { function, collation, args: args.to_vec() }),
            (Fun::DatePart, [field, arg]) => self.date_part(field, arg),
            (Fun::NumericAs(result), [arg]) => self.extract_as(arg, result),
            (Fun::FloatToInt, [arg]) => self.date_part_as_int(arg),
            _ => Err(Refusal("a function without a rule")),
        }
    }

    fn text_function(
        &mut self,
        name: &str,
        kinds: &[Arg],
        result: Oid,
        collation: Oid,
        args: &[Expr],
    ) -> Result<Term, Refusal> {
        if kinds.contains(&Sought) && !(self.collation)(collation).deterministic {
            return Err(Refusal("text is equal otherwise under this collation"));
        }
        let mut sqls = Vec::new();
        let mut quiet = false;
        for (kind, arg) in kinds.iter().zip(args) {
            let term = match kind {
                Arg::Text | Sought => self.term_of(arg, Family::Text)?,
                _ => self.term_of(arg, Family::Int)?,
            };
            let (low, high) = term.range.unwrap_or(WIDEST);
            let fault = match kind {
                Length if low < 0 => Some(format!("({}) < 0", term.sql)),
                Place if low <= 0 && high >= 0 => Some(format!("({}) = 0", term.sql)),
                _ => None,
            };
            match fault {
                Some(_) if self.raises() => self.raised(),
                Some(test) => {
                    self.doubts.push(test);
                    quiet = true;
                }
                None => {}
            }
            sqls.push(term.sql);
        }
        // Where it is in doubt, the workers' functions give NULL instead of raising.
        let name = if quiet { format!("{name}_or_null") } else { name.to_owned() };
        // What counts characters is never negative, and no text is longer than a gibibyte.
        let range = (result == oid::INT4).then_some((0, 1 << 30));
        Ok(Term { range, ..Term::new(format!("{name}({})", sqls.join(", ")), result)? })
    }

    /// Case under a collation is what the workers know: ASCII. Other texts are in doubt.
    pub(crate) fn folds(&mut self, collation: Oid, text: &str) -> Result<(), Refusal> {
        let collation = (self.collation)(collation);
        if collation.only_ascii {
            return Ok(());
        }
        if !collation.ascii_case {
            return Err(Refusal("this collation has a case of its own"));
        }
        if self.raises() {
            return Err(Refusal("case of other letters than ASCII's"));
        }
        self.doubts.push(format!("trough_not_ascii({text})"));
        Ok(())
    }

    /// A scalar of a family.
    pub(crate) fn term_of(&mut self, expr: &Expr, family: Family) -> Result<Term, Refusal> {
        let term = self.term(expr)?;
        if term.family == family { Ok(term) } else { Err(Refusal("types of different families")) }
    }

    fn integers(&mut self, op: Int, result: Oid, args: &[Expr]) -> Result<Term, Refusal> {
        let mut terms = Vec::new();
        for arg in args {
            let term = self.term_of(arg, Family::Int)?;
            terms.push((term.sql, term.range.unwrap_or(WIDEST)));
        }
        let (sql, range) = match (op, terms.as_slice()) {
            (Add, [(a, x), (b, y)]) => (format!("({a} + {b})"), (x.0 + y.0, x.1 + y.1)),
            (Sub, [(a, x), (b, y)]) => (format!("({a} - {b})"), (x.0 - y.1, x.1 - y.0)),
            (Mul, [(a, x), (b, y)]) => {
                let ends = [x.0 * y.0, x.0 * y.1, x.1 * y.0, x.1 * y.1];
                (format!("({a} * {b})"), hull(ends))
            }
            (Div, [(a, x), (b, y)]) => {
                let b = self.divisor(b, *y);
                // The quotient is never farther from 0 than the dividend.
                let most = x.0.abs().max(x.1.abs());
                let range = if y.0 > 0 { (x.0.min(0), x.1.max(0)) } else { (-most, most) };
                (format!("({a} / {b})"), range)
            }
            (Mod, [(a, x), (b, y)]) => {
                let b = self.divisor(b, *y);
                let most = y.0.abs().max(y.1.abs()) - 1;
                (format!("({a} % {b})"), (x.0.max(-most).min(0), x.1.min(most).max(0)))
            }
            (Minus, [(a, x)]) => (format!("(-({a}))"), (-x.1, -x.0)),
            (Plus, [(a, x)]) => (a.clone(), *x),
            (Abs, [(a, x)]) => {
                let low = if x.0 <= 0 && x.1 >= 0 { 0 } else { x.0.abs().min(x.1.abs()) };
                (format!("(CASE WHEN {a} < 0 THEN -({a}) ELSE {a} END)"), (low, x.0.abs().max(x.1.abs())))
            }
            (And, [(a, _), (b, _)]) => (format!("({a} & {b})"), type_range(result).unwrap_or(WIDEST)),
            (Or, [(a, _), (b, _)]) => (format!("({a} | {b})"), type_range(result).unwrap_or(WIDEST)),
            (Xor, [(a, _), (b, _)]) => (format!("(({a} | {b}) - ({a} & {b}))"), type_range(result).unwrap_or(WIDEST)),
            (Not, [(a, _)]) => (format!("(~({a}))"), type_range(result).unwrap_or(WIDEST)),
            _ => return Err(Refusal("a function without a rule")),
        };
        self.in_range(sql, range, result)
    }

    /// A divisor, which may be 0: the result is NULL in SQLite.
    fn divisor(&mut self, sql: &str, range: Range) -> String {
        if range.0 > 0 || range.1 < 0 {
            return sql.to_owned();
        }
        if self.raises() {
            self.raised();
            return format!("trough_divisor({sql})");
        }
        self.doubts.push(format!("{sql} = 0"));
        sql.to_owned()
    }

    /// An integer of a type, which may be out of its range. SQLite computes in 64 bits, and on reals beyond.
    fn in_range(&mut self, sql: String, range: Range, result: Oid) -> Result<Term, Refusal> {
        let (low, high) = type_range(result).ok_or(Refusal("a function without a rule"))?;
        if range.0 >= low && range.1 <= high {
            return Ok(Term { range: Some(range), ..Term::new(sql, result)? });
        }
        let clamped = Some((range.0.clamp(low, high), range.1.clamp(low, high)));
        let sql = match (self.raises(), result) {
            (true, _) => {
                self.raised();
                let bytes = [(oid::INT2, 2), (oid::INT4, 4)].iter().find(|(t, _)| *t == result).map_or(8, |(_, b)| *b);
                format!("trough_int({sql}, {bytes})")
            }
            (false, oid::INT8) => {
                self.doubts.push(format!("typeof({sql}) = 'real'"));
                sql
            }
            (false, _) => {
                self.doubts.push(format!("{sql} NOT BETWEEN {low} AND {high}"));
                sql
            }
        };
        Ok(Term { range: clamped, encoding: Encoding::Integer, ..Term::new(sql, result)? })
    }
}

/// What SQLite's integers hold.
const WIDEST: Range = (i64::MIN as i128, i64::MAX as i128);

fn hull(ends: [i128; 4]) -> Range {
    (ends.iter().copied().fold(i128::MAX, i128::min), ends.iter().copied().fold(i128::MIN, i128::max))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_is_sorted() {
        assert!(super::FUNCTIONS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
