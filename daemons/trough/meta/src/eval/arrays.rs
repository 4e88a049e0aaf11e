//! Arrays and positions: APPEND and the like, SLICE, LIMIT, SKIP, NTH.

use std::collections::BTreeSet;

use trough_reql::proto::term_type as t;

use super::val::{Single, Val};
use super::{Args, Exec};
use crate::datum::Datum;
use crate::error::{QueryError, Result};

pub(super) fn array(ex: &Exec, args: &mut Args) -> Result<Val> {
    let left = args.datum(ex, 0)?;
    let left = left.as_array()?;
    let op = args.call.op;
    let mut out = Vec::with_capacity(left.len() + 1);
    match op {
        t::APPEND | t::PREPEND => {
            let item = args.datum(ex, 1)?;
            if op == t::PREPEND {
                out.push(item.clone());
            }
            out.extend(left.iter().cloned());
            if op == t::APPEND {
                out.push(item);
            }
        }
        t::SET_INSERT | t::SET_UNION | t::SET_INTERSECTION | t::SET_DIFFERENCE => {
            let right = args.datum(ex, 1)?;
            let right: Vec<Datum> = if op == t::SET_INSERT { vec![right] } else { right.as_array()?.to_vec() };
            let mut seen = BTreeSet::new();
            match op {
                t::SET_INTERSECTION => {
                    seen.extend(left.iter().cloned());
                    out.extend(right.into_iter().filter(|item| seen.remove(item)));
                }
                t::SET_DIFFERENCE => {
                    seen.extend(right);
                    out.extend(left.iter().filter(|item| seen.insert((*item).clone())).cloned());
                }
                _ => out.extend(left.iter().cloned().chain(right).filter(|item| seen.insert(item.clone()))),
            }
        }
        _ => {
            out.extend(left.iter().cloned());
            change_at(ex, args, &mut out)?;
        }
    }
    ex.check_len(out.len())?;
    Ok(Val::Datum(Datum::array(out)))
}

/// A position from the front; a negative one counts from the end of `size`.
fn position(index: i64, size: usize) -> Result<usize> {
    let out = || QueryError::non_existence(format!("Index out of bounds: {index}"));
    if index >= 0 {
        return usize::try_from(index).map_err(|_| out());
    }
    usize::try_from(index.unsigned_abs()).ok().and_then(|back| size.checked_sub(back)).ok_or_else(out)
}

fn change_at(ex: &Exec, args: &mut Args, out: &mut Vec<Datum>) -> Result<()> {
    let op = args.call.op;
    let index = args.int(ex, 1)?;
    // These two name the gaps between elements, of which there is one more.
    let size = out.len() + usize::from(matches!(op, t::INSERT_AT | t::SPLICE_AT));
    let at = position(index, size)?;
    let beyond = |limit: usize| {
        if at > limit {
            Err(QueryError::non_existence(format!("Index `{at}` out of bounds for array of size: `{}`.", out.len())))
        } else {
            Ok(())
        }
    };
    match op {
        t::INSERT_AT => {
            beyond(out.len())?;
            out.insert(at, args.datum(ex, 2)?);
        }
        t::SPLICE_AT => {
            beyond(out.len())?;
            let items = args.datum(ex, 2)?;
            out.splice(at..at, items.as_array()?.iter().cloned());
        }
        t::CHANGE_AT => {
            beyond(out.len().wrapping_sub(1).min(out.len()))?;
            let item = args.datum(ex, 2)?;
            match out.get_mut(at) {
                Some(slot) => *slot = item,
                None => {
                    return Err(QueryError::non_existence(format!(
                        "Index `{at}` out of bounds for array of size: `{}`.",
                        out.len()
                    )));
                }
            }
        }
        _ => {
            let end = if args.len() == 3 {
                position(args.int(ex, 2)?, out.len())?
            } else {
                if at >= out.len() {
                    return Err(QueryError::non_existence(format!(
                        "Index `{at}` out of bounds for array of size: `{}`.",
                        out.len()
                    )));
                }
                at + 1
            };
            beyond(out.len())?;
            if end > out.len() {
                return Err(QueryError::non_existence(format!(
                    "Index `{end}` out of bounds for array of size: `{}`.",
                    out.len()
                )));
            }
            if at > end {
                return Err(QueryError::logic(format!("Start index `{at}` is greater than end index `{end}`.")));
            }
            out.drain(at..end);
        }
    }
    Ok(())
}

pub(super) fn slice(ex: &Exec, args: &mut Args) -> Result<Val> {
    let target = args.val(ex, 0)?;
    match args.call.op {
        t::LIMIT => {
            let (table, stream) = target.selection(ex)?;
            let limit = args.int(ex, 1)?;
            let limit = u64::try_from(limit)
                .map_err(|_| QueryError::logic(format!("LIMIT takes a non-negative argument (got {limit})")))?;
            Val::from_selection(ex, table, stream.sliced(0, Some(limit)))
        }
        t::SKIP => {
            let left = args.int(ex, 1)?;
            cut(ex, target, (left, false), (-1, false))
        }
        _ => {
            let left = args.int(ex, 1)?;
            let left_open = args.open(ex, "left_bound", false)?;
            if args.len() == 3 {
                let right = args.int(ex, 2)?;
                let right_open = args.open(ex, "right_bound", true)?;
                cut(ex, target, (left, left_open), (right, right_open))
            } else {
                cut(ex, target, (left, left_open), (-1, false))
            }
        }
    }
}

/// Cuts a value or sequence at two positions, each with whether it is open.
fn cut(ex: &Exec, target: Val, left: (i64, bool), right: (i64, bool)) -> Result<Val> {
    if target.is_datum() {
        let datum = target.datum(ex)?;
        let sizes = |size: usize| {
            let place = |(index, open): (i64, bool), is_left: bool| {
                let (at, inside) = match position(index, size) {
                    Ok(at) => (at, true),
                    Err(_) => (0, false),
                };
                // An open left bound starts one later; a closed right bound ends one later.
                if open == is_left && inside { at.saturating_add(1) } else { at }
            };
            let to = place(right, false).min(size);
            (place(left, true).min(to), to)
        };
        return match &datum {
            Datum::Array(items) => {
                let (from, to) = sizes(items.len());
                Ok(Val::Datum(Datum::array(items[from..to].to_vec())))
            }
            Datum::Binary(bytes) => {
                let (from, to) = sizes(bytes.len());
                Ok(Val::Datum(Datum::Binary(bytes[from..to].into())))
            }
            Datum::Str(text) => {
                let (from, to) = sizes(text.chars().count());
                Ok(Val::Datum(text.chars().skip(from).take(to - from).collect::<String>().into()))
            }
            other => {
                Err(QueryError::logic(format!("Expected ARRAY, BINARY, or STRING, but found {}.", other.type_name())))
            }
        };
    }
    let (table, stream) = target.selection(ex)?;
    let from = u64::try_from(left.0)
        .map_err(|_| QueryError::logic("Cannot use a negative left index on a stream."))?
        .saturating_add(u64::from(left.1));
    let to = match right {
        (-1, true) => {
            return Err(QueryError::logic("Cannot slice to an open right index of -1 on a stream."));
        }
        (-1, false) => None,
        (index, open) => {
            let index =
                u64::try_from(index).map_err(|_| QueryError::logic("Cannot use a right index < -1 on a stream."))?;
            Some(index.saturating_add(u64::from(!open)))
        }
    };
    Val::from_selection(ex, table, stream.sliced(from, to))
}

pub(super) fn nth(ex: &Exec, args: &mut Args) -> Result<Val> {
    let target = args.val(ex, 0)?;
    let index = args.datum(ex, 1)?;
    nth_of(ex, target, &index)
}

/// NTH of anything that has elements.
pub(super) fn nth_of(ex: &Exec, target: Val, index: &Datum) -> Result<Val> {
    let index = index.as_int()?;
    if target.is_datum() {
        let datum = target.datum(ex)?;
        let Datum::Array(items) = &datum else {
            return Err(datum.type_error(format!("Cannot convert {} to SEQUENCE", datum.type_name())));
        };
        let found = items.get(position(index, items.len())?).cloned();
        return found.map(Val::Datum).ok_or_else(|| QueryError::non_existence(format!("Index out of bounds: {index}")));
    }
    let (table, mut stream) = target.selection(ex)?;
    if index < -1 && !stream.array {
        return Err(QueryError::logic(format!("Cannot use an index < -1 ({index}) on a stream.")));
    }
    let out = || QueryError::non_existence(format!("Index out of bounds: {index}"));
    let found = if index < 0 {
        stream.finite()?;
        let back = usize::try_from(index.unsigned_abs()).map_err(|_| out())?;
        let mut last = std::collections::VecDeque::with_capacity(back.min(1024));
        while let Some(item) = stream.next(ex)? {
            if last.len() == back {
                last.pop_front();
            }
            last.push_back(item);
        }
        if last.len() == back { last.pop_front() } else { None }
    } else {
        let mut left = index;
        loop {
            match stream.next(ex)? {
                Some(item) if left == 0 => break Some(item),
                Some(_) => left -= 1,
                None => break None,
            }
        }
    };
    match (found, table) {
        (None, _) => Err(out()),
        (Some(row), Some(table)) => Single::from_row(table, row).map(Val::Single),
        (Some(item), None) => Ok(Val::Datum(item)),
    }
}
