//! Terms: compiled from a query's JSON, checked for everything that can be told without running them.

pub(crate) mod spec;

use std::sync::Arc;

use trough_reql::proto::term_type as t;

use crate::datum::{Datum, Object, json};
use crate::error::{Frame, QueryError, Result};

/// A compiled term. Constant arrays and objects are values already.
#[derive(Debug, Clone)]
pub(crate) enum Term {
    Value(Datum),
    Array(Vec<Term>),
    Object(Vec<(Arc<str>, Term)>),
    Var(i64),
    Func(Arc<Func>),
    Call(Arc<Call>),
}

/// A function: its parameters' numbers and its body.
#[derive(Debug)]
pub(crate) struct Func {
    pub(crate) params: Vec<i64>,
    pub(crate) body: Term,
}

/// Any other term: its number, arguments and optional arguments.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) op: u64,
    pub(crate) args: Vec<Term>,
    pub(crate) opts: Vec<(Arc<str>, Term)>,
}

impl Call {
    pub(crate) fn opt(&self, name: &str) -> Option<&Term> {
        self.opts.iter().find(|opt| opt.0.as_ref() == name).map(|opt| &opt.1)
    }
}

/// The name of a term as error messages give it: lower-case.
pub(crate) fn name(op: u64) -> String {
    match op {
        t::CONCAT_MAP => "concatmap".into(),
        t::TYPE_OF => "typeof".into(),
        t::FOR_EACH => "foreach".into(),
        _ => t::name(op).unwrap_or("unknown").to_ascii_lowercase(),
    }
}

/// What a term may refer to where it stands.
#[derive(Clone, Default)]
struct Scope {
    vars: Vec<i64>,
    /// The parameters that `r.row` could mean: one for each enclosing function of one parameter.
    rows: Vec<i64>,
    no_writes: bool,
    parents: Vec<u64>,
}

/// Compiles a query's term.
pub(crate) fn compile(json: &Datum) -> Result<Term> {
    compile_in(json, &mut Scope::default())
}

fn compile_in(json: &Datum, scope: &mut Scope) -> Result<Term> {
    match json {
        Datum::Array(parts) => compile_array(parts, scope),
        Datum::Object(object) => compile_object(object, scope),
        scalar => Ok(Term::Value(scalar.clone())),
    }
}

fn compile_object(object: &Object, scope: &mut Scope) -> Result<Term> {
    if object.get("$reql_type$").is_some()
        && let Ok(constant) = constant(&Datum::from(object.clone()))
    {
        return json::from_pseudo(constant.as_object()?.as_ref().clone()).map(Term::Value);
    }
    scope.parents.push(t::MAKE_OBJ);
    let mut fields = Vec::with_capacity(object.len());
    for (name, value) in object.iter() {
        fields.push((name.clone(), compile_in(value, scope).map_err(|error| error.at(Frame::Opt(name.to_string())))?));
    }
    scope.parents.pop();
    if fields.iter().all(|field| matches!(field.1, Term::Value(_))) {
        let mut object = Object::with_capacity(fields.len());
        for (name, term) in fields {
            if let Term::Value(value) = term {
                object.set(name, value);
            }
        }
        return Ok(Term::Value(object.into()));
    }
    Ok(Term::Object(fields))
}

/// A JSON object without terms in it, as it stands.
fn constant(json: &Datum) -> Result<Datum, ()> {
    let Datum::Object(object) = json else { return Err(()) };
    if object.iter().all(|field| !matches!(field.1, Datum::Array(_) | Datum::Object(_))) {
        Ok(json.clone())
    } else {
        Err(())
    }
}

fn compile_array(parts: &[Datum], scope: &mut Scope) -> Result<Term> {
    if parts.is_empty() || parts.len() > 3 {
        return Err(QueryError::compile(format!(
            "Expected between 1 and 3 elements in a raw term, but found {}.",
            parts.len()
        )));
    }
    let Datum::Num(number) = parts[0] else {
        return Err(QueryError::compile(format!(
            "Expected a TermType as a NUMBER but found {}.",
            parts[0].type_name()
        )));
    };
    let op = number as u64;
    let Some(official) = t::name(op).filter(|_| number >= 0.0 && number.fract() == 0.0) else {
        return Err(QueryError::compile(format!("Unrecognized TermType: {}.", number as i64)));
    };
    if op == t::DATUM {
        return match parts.get(1) {
            Some(value) => json_value(value).map(Term::Value),
            None => Err(QueryError::compile("Expected 3 items in array, but found 2.")),
        };
    }
    let no_args: &[Datum] = &[];
    let (args, opts): (&[Datum], Option<&Object>) = match (parts.get(1), parts.get(2)) {
        (None, _) => (no_args, None),
        (Some(Datum::Array(args)), None) => (args, None),
        (Some(Datum::Array(args)), Some(Datum::Object(opts))) => (args, Some(opts)),
        (Some(Datum::Object(opts)), None) => (no_args, Some(opts)),
        (Some(Datum::Object(_)), Some(_)) => {
            return Err(QueryError::compile("Second and third element in a term are both optional arguments."));
        }
        (Some(Datum::Array(_)), Some(_)) => {
            return Err(QueryError::compile("Third element in a Term is not optional arguments."));
        }
        _ => {
            return Err(QueryError::compile("Second element in a Term is neither arguments nor optional arguments."));
        }
    };
    match op {
        t::MAKE_OBJ => {
            if !args.is_empty() {
                return Err(QueryError::compile("MAKE_OBJ term must not have any args."));
            }
            return compile_object(opts.unwrap_or(&Object::default()), scope);
        }
        t::VAR => return variable(args, scope),
        t::IMPLICIT_VAR => return implicit(args, opts, scope),
        t::FUNC => return function(args, opts, scope),
        t::ASC | t::DESC => check_direction(op, scope)?,
        _ => {}
    }
    let Some(spec) = spec::spec(op) else {
        return Err(QueryError::compile(format!(
            "The term {official} is not supported by the embedded metadata server. A real RethinkDB has it."
        )));
    };
    if spec::writes(op) && scope.no_writes {
        return Err(QueryError::compile("Cannot nest writes or meta ops in stream operations.  Use FOR_EACH instead."));
    }
    scope.parents.push(op);
    let compiled = compile_parts(op, args, opts, scope, &spec);
    scope.parents.pop();
    compiled
}

fn compile_parts(op: u64, args: &[Datum], opts: Option<&Object>, scope: &mut Scope, spec: &spec::Spec) -> Result<Term> {
    let outer_no_writes = scope.no_writes;
    let mut compiled = Vec::with_capacity(args.len());
    for (at, arg) in args.iter().enumerate() {
        scope.no_writes = outer_no_writes || (at > 0 && spec::forbids_writes(op));
        compiled.push(compile_in(arg, scope).map_err(|error| error.at(Frame::Arg(at)))?);
    }
    let spliced = compiled.iter().any(|arg| matches!(arg, Term::Call(call) if call.op == t::ARGS));
    if !spliced && let Some(complaint) = spec.complaint(compiled.len()) {
        return Err(QueryError::compile(complaint));
    }
    let mut options = Vec::new();
    for (name, value) in opts.into_iter().flat_map(Object::iter) {
        let at = |error: QueryError| error.at(Frame::Opt(name.to_string()));
        if !spec.opts.contains(&name.as_ref()) {
            return Err(at(QueryError::compile(format!("Unrecognized optional argument `{name}`."))));
        }
        scope.no_writes = outer_no_writes || spec::forbids_writes(op);
        options.push((name.clone(), compile_in(value, scope).map_err(at)?));
    }
    scope.no_writes = outer_no_writes;
    if op == t::MAKE_ARRAY {
        if !spliced
            && compiled.iter().all(|arg| matches!(arg, Term::Value(value) if !matches!(value, Datum::Literal(_))))
        {
            let items = compiled.into_iter().filter_map(|arg| match arg {
                Term::Value(value) => Some(value),
                _ => None,
            });
            return Ok(Term::Value(Datum::array(items.collect())));
        }
        return Ok(Term::Array(compiled));
    }
    Ok(Term::Call(Arc::new(Call { op, args: compiled, opts: options })))
}

/// A DATUM term's value: JSON in which arrays are arrays.
fn json_value(value: &Datum) -> Result<Datum> {
    Ok(match value {
        Datum::Array(items) => Datum::array(items.iter().map(json_value).collect::<Result<_>>()?),
        Datum::Object(object) => {
            let mut out = Object::with_capacity(object.len());
            for (name, value) in object.iter() {
                out.set(name.clone(), json_value(value)?);
            }
            if out.get("$reql_type$").is_some() {
                return json::from_pseudo(out);
            }
            out.into()
        }
        scalar => scalar.clone(),
    })
}

fn variable(args: &[Datum], scope: &Scope) -> Result<Term> {
    let [arg] = args else {
        return Err(QueryError::compile("A variable term has the wrong number of arguments."));
    };
    let Datum::Num(number) = arg else {
        return Err(QueryError::compile("A variable term has a non-numeric name datum."));
    };
    let id = *number as i64;
    if scope.vars.contains(&id) { Ok(Term::Var(id)) } else { Err(QueryError::compile("Variable name not found.")) }
}

fn implicit(args: &[Datum], opts: Option<&Object>, scope: &Scope) -> Result<Term> {
    if !args.is_empty() || opts.is_some_and(|opts| !opts.is_empty()) {
        return Err(QueryError::compile("Expected no arguments or optional arguments on implicit variable term."));
    }
    match scope.rows.as_slice() {
        [] => Err(QueryError::compile("r.row is not defined in this context.")),
        [id] => Ok(Term::Var(*id)),
        _ => Err(QueryError::compile("Cannot use r.row in nested queries.  Use functions instead.")),
    }
}

fn function(args: &[Datum], opts: Option<&Object>, scope: &mut Scope) -> Result<Term> {
    if opts.is_some_and(|opts| !opts.is_empty()) {
        return Err(QueryError::compile("FUNC takes no optional arguments."));
    }
    let [params, body] = args else {
        return Err(QueryError::compile(format!("FUNC takes exactly two arguments (got {})", args.len())));
    };
    let wrong = || QueryError::compile("CLIENT ERROR: FUNC variables must be a literal array of *numbers*.");
    // A literal array is `[2, [numbers]]`.
    let Datum::Array(parts) = params else { return Err(wrong()) };
    let numbers = match parts.as_ref().as_ref() as &[Datum] {
        [Datum::Num(op)] if *op == t::MAKE_ARRAY as f64 => Vec::new(),
        [Datum::Num(op), Datum::Array(items)] if *op == t::MAKE_ARRAY as f64 => items
            .iter()
            .map(|item| item.as_num().map(|number| number as i64))
            .collect::<Result<Vec<_>>>()
            .map_err(|_| wrong())?,
        _ => return Err(wrong()),
    };
    let vars = scope.vars.len();
    scope.vars.extend_from_slice(&numbers);
    if let [only] = numbers.as_slice() {
        scope.rows.push(*only);
    }
    scope.parents.push(t::FUNC);
    let body = compile_in(body, scope).map_err(|error| error.at(Frame::Arg(1)))?;
    scope.parents.pop();
    scope.vars.truncate(vars);
    if numbers.len() == 1 {
        scope.rows.pop();
    }
    Ok(Term::Func(Arc::new(Func { params: numbers, body })))
}

fn check_direction(op: u64, scope: &Scope) -> Result<()> {
    let fits = matches!(scope.parents.as_slice(), [.., t::ORDER_BY | t::UNION] | [.., t::UNION, t::MAKE_ARRAY]);
    if fits {
        return Ok(());
    }
    let direction = if op == t::ASC { "ASC" } else { "DESC" };
    Err(QueryError::compile(format!("{direction} may only be used as an argument to ORDER_BY or UNION.")))
}

/// Whether a term always gives the same value for the same variables. NOW counts as constant if `now_ok`.
pub(crate) fn deterministic(term: &Term, now_ok: bool) -> bool {
    let all = |terms: &[Term]| terms.iter().all(|term| deterministic(term, now_ok));
    let fields = |fields: &[(Arc<str>, Term)]| fields.iter().all(|field| deterministic(&field.1, now_ok));
    match term {
        Term::Value(_) | Term::Var(_) => true,
        Term::Array(terms) => all(terms),
        Term::Object(pairs) => fields(pairs),
        Term::Func(func) => deterministic(&func.body, now_ok),
        Term::Call(call) => {
            let own = match call.op {
                t::NOW => now_ok,
                t::UUID => !call.args.is_empty(),
                t::DB | t::TABLE | t::RANDOM | t::SAMPLE | t::DB_LIST | t::TABLE_LIST | t::CONFIG | t::STATUS => false,
                op => !spec::writes(op),
            };
            own && all(&call.args) && fields(&call.opts)
        }
    }
}

/// A term as JSON, with the values of variables from outside put in: how an index remembers its function.
pub(crate) fn to_json(term: &Term, outside: &dyn Fn(i64) -> Option<Datum>) -> Datum {
    let call = |op: u64, args: Vec<Datum>| Datum::array(vec![Datum::Num(op as f64), Datum::array(args)]);
    let fields = |fields: &[(Arc<str>, Term)]| {
        let mut object = Object::with_capacity(fields.len());
        for (name, term) in fields {
            object.set(name.clone(), to_json(term, outside));
        }
        Datum::from(object)
    };
    match term {
        Term::Value(value) => value_json(value),
        Term::Array(terms) => call(t::MAKE_ARRAY, terms.iter().map(|term| to_json(term, outside)).collect()),
        Term::Object(pairs) => fields(pairs),
        Term::Var(id) => match outside(*id) {
            Some(value) => value_json(&value),
            None => call(t::VAR, vec![Datum::Num(*id as f64)]),
        },
        Term::Func(func) => {
            let params = func.params.iter().map(|id| Datum::Num(*id as f64)).collect();
            call(t::FUNC, vec![call(t::MAKE_ARRAY, params), to_json(&func.body, outside)])
        }
        Term::Call(inner) => {
            let args = inner.args.iter().map(|term| to_json(term, outside)).collect();
            let mut parts = vec![Datum::Num(inner.op as f64), Datum::array(args)];
            if !inner.opts.is_empty() {
                parts.push(fields(&inner.opts));
            }
            Datum::array(parts)
        }
    }
}

fn value_json(value: &Datum) -> Datum {
    match value {
        Datum::Array(items) => {
            Datum::array(vec![Datum::Num(t::MAKE_ARRAY as f64), Datum::array(items.iter().map(value_json).collect())])
        }
        Datum::Object(object) => {
            let mut out = Object::with_capacity(object.len());
            for (name, value) in object.iter() {
                out.set(name.clone(), value_json(value));
            }
            out.into()
        }
        Datum::MinVal => Datum::array(vec![Datum::Num(t::MINVAL as f64), Datum::array(vec![])]),
        Datum::MaxVal => Datum::array(vec![Datum::Num(t::MAXVAL as f64), Datum::array(vec![])]),
        scalar => scalar.clone(),
    }
}
