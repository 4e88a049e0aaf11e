//! `ANY` and `ALL` over arrays of values.

use crate::{
    column::Encoding,
    expr::{Expr, Literal, Val},
    oid::Oid,
    rules::{self, Cmp, Family, Rule},
    ship::{Encode, Refusal, Shipped, Shipper},
    stored::array_in_family,
};

/// Constant arrays of up to so many elements are bound one by one, longer ones as one JSON text.
const SHORT_LIST: usize = 64;

impl Shipper<'_> {
    /// `left operator ANY (array)`, or ALL.
    pub(crate) fn in_list(
        &mut self,
        operator: Oid,
        any: bool,
        collation: Oid,
        left: &Expr,
        array: &Val,
        loose: bool,
    ) -> Result<Shipped, Refusal> {
        let (cmp, family) = match rules::operator(operator) {
            Some(Rule::Compare(cmp, family)) => (cmp, family),
            Some(Rule::Like { negated, folded: false }) => return self.like_list(negated, any, collation, left, array),
            _ => return Err(Refusal("an operator without a rule")),
        };
        self.collation_allows(cmp, family, collation)?;
        let term = self.term_of(left, family)?;
        if !array_in_family(array.type_oid, family) {
            return Err(Refusal("types of different families"));
        }
        let (left, encoding) = (term.sql, term.encoding);
        let not = match (cmp, any) {
            (Cmp::Eq, true) => "",
            (Cmp::Ne, false) => "NOT ",
            _ => return self.each(&left, cmp, any, encoding, array),
        };
        let sql = match &array.literal {
            Some(Literal::Array { len: 0, .. }) => format!("({left} {not}IN ())"),
            Some(Literal::Array { len, .. }) if *len <= SHORT_LIST => {
                let items: Vec<_> = (0..*len).map(|i| self.bind(array.slot, Some(i), Encode::As(encoding))).collect();
                format!("({left} {not}IN ({}))", items.join(", "))
            }
            Some(Literal::Null) => return Err(Refusal("a NULL array")),
            known => {
                let element = match (family, encoding) {
                    (Family::Bytea, _) | (_, Encoding::UuidBlob) => "unhex(value)",
                    (Family::Float, _) | (_, Encoding::EpochS | Encoding::EpochMs | Encoding::EpochUs) => {
                        "trough_number(value)"
                    }
                    _ => "value",
                };
                let array = self.bind(array.slot, None, Encode::JsonArray(encoding));
                let list = format!("{left} {not}IN (SELECT {element} FROM json_each({array}))");
                match known {
                    Some(Literal::Array { .. }) => format!("({list})"),
                    // A NULL array makes the whole NULL; where only the truth counts, that is false.
                    _ if loose && not.is_empty() => format!("({list})"),
                    _ => format!("(CASE WHEN {array} IS NOT NULL THEN {list} END)"),
                }
            }
        };
        Ok(Shipped { sql, exact: true })
    }

    /// A comparison with each element of a short array.
    fn each(&mut self, left: &str, cmp: Cmp, any: bool, encoding: Encoding, array: &Val) -> Result<Shipped, Refusal> {
        let len = short(array)?;
        let parts: Vec<_> = (0..len)
            .map(|i| format!("({left} {} {})", cmp.sql(), self.bind(array.slot, Some(i), Encode::As(encoding))))
            .collect();
        Ok(joined(&parts, any))
    }

    fn like_list(
        &mut self,
        negated: bool,
        any: bool,
        collation: Oid,
        left: &Expr,
        array: &Val,
    ) -> Result<Shipped, Refusal> {
        if !(self.collation)(collation).deterministic {
            return Err(Refusal("text is equal otherwise under this collation"));
        }
        let term = self.term_of(left, Family::Text)?;
        if !array_in_family(array.type_oid, Family::Text) {
            return Err(Refusal("types of different families"));
        }
        let len = short(array)?;
        let mut parts = Vec::new();
        for i in 0..len {
            let pattern = self.bind(array.slot, Some(i), Encode::As(Encoding::Text));
            let sql = self.like_sql(&term.sql, &pattern, true);
            parts.push(if negated { format!("(NOT {sql})") } else { sql });
        }
        Ok(joined(&parts, any))
    }
}

/// How many elements a constant short array has.
fn short(array: &Val) -> Result<usize, Refusal> {
    match &array.literal {
        Some(Literal::Array { len, .. }) if (1..=SHORT_LIST).contains(len) => Ok(*len),
        _ => Err(Refusal("an ANY or ALL that is neither IN nor NOT IN")),
    }
}

fn joined(parts: &[String], any: bool) -> Shipped {
    Shipped { sql: format!("({})", parts.join(if any { " OR " } else { " AND " })), exact: true }
}
