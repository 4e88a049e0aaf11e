//! Running terms. [`eval`] gives a term's value; the modules beside hold the terms, by what they work on.

mod admin;
mod aggregate;
mod args;
mod arith;
mod arrays;
mod changes;
mod control;
mod fields;
mod group;
mod indexes;
mod joins;
mod limit_feed;
mod order;
mod point_feed;
mod select;
mod seqs;
mod stats;
pub(crate) mod stream;
mod system;
mod text;
mod times;
pub(crate) mod val;
mod writes;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use rusqlite::Connection;
use trough_reql::proto::term_type as t;

use crate::datum::{Datum, MAX_DEPTH, Object, json};
use crate::error::{Class, Frame, QueryError, Result};
use crate::store::Store;
use crate::store::catalog::{Catalog, Index};
use crate::term::{Call, Func, Term, spec};
use args::{Args, Shortcut, expand};
use val::{Closure, Val};

/// The user who may only read.
pub(crate) const READER: &str = "reader";

/// Optional arguments by name.
pub(crate) type Opts = Vec<(Arc<str>, Term)>;

/// What holds for a whole query.
#[derive(Clone)]
pub(crate) struct Query {
    /// Where everything is; none where nothing may be read.
    store: Option<Arc<Store>>,
    /// What NOW gives, the same throughout.
    pub(crate) now: Datum,
    pub(crate) array_limit: usize,
    /// Optional arguments for all terms, and the query in which they are evaluated themselves: one without, or they would go on for ever.
    opts: Option<(Opts, Arc<Query>)>,
    /// Set when nobody wants the answer any more.
    pub(crate) cancelled: Arc<AtomicBool>,
    /// What this server tells about itself.
    pub(crate) about: Arc<system::About>,
    /// Whether the user may only read.
    read_only: bool,
}

pub(crate) use system::About;

impl Query {
    /// Whether the user may change anything.
    pub(crate) fn may_write(&self) -> Result<()> {
        if !self.read_only {
            return Ok(());
        }
        let message = format!("User `{READER}` does not have the required `write` permission");
        Err(QueryError::new(Class::Permission, message))
    }

    pub(crate) fn new(
        store: Arc<Store>,
        about: Arc<About>,
        opts: Opts,
        cancelled: Arc<AtomicBool>,
        read_only: bool,
    ) -> Result<Arc<Query>> {
        let mut array_limit = DEFAULT_ARRAY_LIMIT;
        if let Some((_, Term::Value(limit))) = opts.iter().find(|opt| opt.0.as_ref() == "array_limit") {
            let limit = limit.as_int()?;
            array_limit = usize::try_from(limit)
                .ok()
                .filter(|limit| *limit > 0)
                .ok_or_else(|| QueryError::logic(format!("Illegal array size limit `{limit}`.  (Must be >= 1.)")))?;
        }
        let now = crate::datum::time::now();
        let mut query = Query { store: Some(store), now, array_limit, opts: None, cancelled, about, read_only };
        if !opts.is_empty() {
            let plain = Arc::new(query.clone());
            query.opts = Some((opts, plain));
        }
        Ok(Arc::new(query))
    }

    /// An optional argument for all terms.
    pub(crate) fn opt_term(&self, name: &str) -> Option<&Term> {
        let (opts, _) = self.opts.as_ref()?;
        opts.iter().find(|opt| opt.0.as_ref() == name).map(|opt| &opt.1)
    }
}

/// A query as it runs on one thread.
pub(crate) struct Exec<'a> {
    pub(crate) query: &'a Arc<Query>,
    /// The writer's connection, inside its transaction; otherwise reads take one of the pool.
    connection: Option<&'a Connection>,
}

/// Variables and their values, innermost first.
#[derive(Clone, Default)]
pub(crate) struct Env(Option<Arc<Binding>>);

struct Binding {
    id: i64,
    value: Datum,
    outer: Env,
}

impl Env {
    pub(crate) fn bind(&self, id: i64, value: Datum) -> Env {
        Env(Some(Arc::new(Binding { id, value, outer: self.clone() })))
    }

    pub(crate) fn get(&self, id: i64) -> Option<&Datum> {
        let mut env = self;
        while let Some(binding) = &env.0 {
            if binding.id == id {
                return Some(&binding.value);
            }
            env = &binding.outer;
        }
        None
    }
}

impl<'a> Exec<'a> {
    pub(crate) fn new(query: &'a Arc<Query>) -> Self {
        Self { query, connection: None }
    }

    /// The value of an optional argument for all terms.
    pub(crate) fn opt_val(&self, name: &str) -> Result<Option<Val>> {
        match (self.query.opt_term(name), &self.query.opts) {
            (Some(term), Some((_, plain))) => {
                let ex = Exec { query: plain, connection: self.connection };
                eval(&ex, term, &Env::default()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The same query inside the writer's transaction.
    pub(crate) fn inside(query: &'a Arc<Query>, connection: &'a Connection) -> Self {
        Self { query, connection: Some(connection) }
    }

    pub(crate) fn in_transaction(&self) -> bool {
        self.connection.is_some()
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.check_cancelled()?;
        match self.connection {
            Some(connection) => read(connection),
            None => self.store()?.read(read),
        }
    }

    pub(crate) fn store(&self) -> Result<&'a Arc<Store>> {
        self.query.store.as_ref().ok_or_else(|| QueryError::logic("Index functions must be deterministic."))
    }

    pub(crate) fn catalog(&self) -> Result<Arc<Catalog>> {
        Ok(self.store()?.catalog())
    }

    /// Fails once the client has stopped the query or gone away.
    pub(crate) fn check_cancelled(&self) -> Result<()> {
        if self.query.cancelled.load(Ordering::Relaxed) {
            return Err(QueryError::new(Class::OpIndeterminate, "Query terminated by the client."));
        }
        Ok(())
    }

    /// Fails for an array longer than the query allows.
    pub(crate) fn check_len(&self, len: usize) -> Result<()> {
        if len > self.query.array_limit {
            return Err(QueryError::array_limit(self.query.array_limit));
        }
        Ok(())
    }
}

/// Flag for [`eval`]: whether LITERAL may stand here.
pub(crate) type LiteralOk = bool;

/// A term's value.
pub(crate) fn eval(ex: &Exec, term: &Term, env: &Env) -> Result<Val> {
    eval_flagged(ex, term, env, false)
}

/// A term's value where LITERAL may be allowed.
pub(crate) fn eval_flagged(ex: &Exec, term: &Term, env: &Env, literal_ok: LiteralOk) -> Result<Val> {
    let value = match term {
        Term::Value(value) => {
            if let Datum::Array(items) = value {
                ex.check_len(items.len())?;
            }
            if matches!(value, Datum::Literal(_)) && !literal_ok {
                return Err(json::stray_literal());
            }
            return Ok(Val::Datum(value.clone()));
        }
        Term::Var(id) => match env.get(*id) {
            Some(value) => return Ok(Val::Datum(value.clone())),
            None => return Err(QueryError::internal("Variable name not found.")),
        },
        Term::Func(func) => return Ok(Val::Func(Closure { func: func.clone(), env: env.clone() })),
        Term::Array(items) => {
            let args = expand(ex, items, env)?;
            ex.check_len(args.len())?;
            let mut out = Vec::with_capacity(args.len());
            for (at, item) in args.iter().enumerate() {
                out.push(eval(ex, item, env).and_then(|val| val.datum(ex)).map_err(|error| error.at(Frame::Arg(at)))?);
            }
            Val::Datum(Datum::array(out))
        }
        Term::Object(fields) => {
            let mut out = Object::with_capacity(fields.len());
            for (name, term) in fields {
                let value = eval_flagged(ex, term, env, literal_ok).and_then(|val| val.datum(ex));
                out.set(name.clone(), value.map_err(|error| error.at(Frame::Opt(name.to_string())))?);
            }
            Val::Datum(out.into())
        }
        Term::Call(call) => eval_call(ex, call, env, literal_ok)?,
    };
    check_depth(value)
}

fn check_depth(value: Val) -> Result<Val> {
    match &value {
        Val::Datum(datum) if datum.depth() > MAX_DEPTH => Err(QueryError::new(
            Class::Resource,
            format!("Nesting depth limit exceeded: a value may not nest deeper than {MAX_DEPTH} levels."),
        )),
        _ => Ok(value),
    }
}

fn eval_call(ex: &Exec, call: &Arc<Call>, env: &Env, literal_ok: LiteralOk) -> Result<Val> {
    let terms = expand(ex, &call.args, env)?;
    if terms.len() != call.args.len() || call.args.iter().any(|arg| matches!(arg, Term::Call(c) if c.op == t::ARGS)) {
        let complaint = spec::spec(call.op).and_then(|spec| spec.complaint(terms.len()));
        if let Some(complaint) = complaint {
            return Err(QueryError::logic(complaint));
        }
    }
    let mut args = Args { call, env, terms, first: None, no_recurse: false, literal_ok };
    if groupable(call.op) && args.len() > 0 {
        if let Some(value) = group::streamed(ex, &args)? {
            return Ok(value);
        }
        let first = args.val(ex, 0)?;
        if let Val::Grouped(groups) = first {
            return group::map_groups(ex, &args, groups);
        }
        args.first = Some(first);
    }
    dispatch(ex, &mut args)
}

/// Runs a call on an element of a sequence: its first argument is the element.
pub(crate) fn eval_method(ex: &Exec, call: &Arc<Call>, env: &Env, element: Datum) -> Result<Val> {
    let terms = expand(ex, &call.args, env)?;
    let first = Some(Val::Datum(element));
    dispatch(ex, &mut Args { call, env, terms, first, no_recurse: true, literal_ok: false }).and_then(check_depth)
}

/// Whether a term works group by group on grouped data.
fn groupable(op: u64) -> bool {
    !matches!(
        op,
        t::UNGROUP
            | t::TYPE_OF
            | t::DEFAULT
            | t::LITERAL
            | t::FUNCALL
            | t::BRANCH
            | t::AND
            | t::OR
            | t::ERROR
            | t::ARGS
    )
}

fn dispatch(ex: &Exec, args: &mut Args) -> Result<Val> {
    match args.call.op {
        t::DEFAULT => control::default(ex, args),
        t::BRANCH => control::branch(ex, args),
        t::ERROR | t::AND | t::OR | t::NOT => control::simple(ex, args),
        t::FUNCALL => control::funcall(ex, args),
        t::ARGS => {
            let value = args.datum(ex, 0)?;
            value.as_array()?;
            Ok(Val::Datum(value))
        }
        t::LITERAL => {
            if !args.literal_ok {
                return Err(json::stray_literal());
            }
            let value = if args.len() == 1 { Some(args.datum(ex, 0)?) } else { None };
            Ok(Val::Datum(Datum::Literal(Arc::new(value))))
        }
        t::MINVAL => Ok(Val::Datum(Datum::MinVal)),
        t::MAXVAL => Ok(Val::Datum(Datum::MaxVal)),
        t::ASC | t::DESC => args.val(ex, 0),
        t::TYPE_OF => {
            let value = args.val(ex, 0)?;
            Ok(Val::Datum(Datum::from(value.type_name(ex)?)))
        }
        t::INFO => admin::info(ex, args),
        t::UNGROUP => group::ungroup(ex, args),
        t::COERCE_TO => text::coerce(ex, args),
        t::EQ | t::NE | t::LT | t::LE | t::GT | t::GE => arith::compare(ex, args),
        t::ADD | t::SUB | t::MUL | t::DIV | t::MOD | t::FLOOR | t::CEIL | t::ROUND | t::RANDOM => {
            arith::number(ex, args)
        }
        t::BIT_AND | t::BIT_OR | t::BIT_XOR | t::BIT_NOT | t::BIT_SAL | t::BIT_SAR => arith::bits(ex, args),
        t::APPEND
        | t::PREPEND
        | t::SET_INSERT
        | t::SET_UNION
        | t::SET_INTERSECTION
        | t::SET_DIFFERENCE
        | t::INSERT_AT
        | t::SPLICE_AT
        | t::DELETE_AT
        | t::CHANGE_AT => arrays::array(ex, args),
        t::SLICE | t::LIMIT | t::SKIP => arrays::slice(ex, args),
        t::NTH => arrays::nth(ex, args),
        t::BRACKET => fields::bracket(ex, args),
        t::GET_FIELD | t::HAS_FIELDS | t::PLUCK | t::WITHOUT | t::MERGE => fields::fields(ex, args),
        t::WITH_FIELDS => fields::with_fields(ex, args),
        t::KEYS | t::VALUES | t::OBJECT => fields::object(ex, args),
        t::DB | t::TABLE | t::GET | t::GET_ALL | t::BETWEEN | t::BETWEEN_DEPRECATED => select::select(ex, args),
        t::FILTER | t::MAP | t::CONCAT_MAP | t::UNION | t::ZIP | t::RANGE | t::FOLD | t::OFFSETS_OF | t::DIFFERENCE => {
            seqs::seq(ex, args)
        }
        t::SAMPLE => seqs::sample(ex, args),
        t::ORDER_BY => order::order_by(ex, args),
        t::DISTINCT => order::distinct(ex, args),
        t::GROUP => group::group(ex, args),
        t::COUNT | t::SUM | t::AVG | t::MIN | t::MAX | t::REDUCE | t::IS_EMPTY | t::CONTAINS => {
            aggregate::aggregate(ex, args)
        }
        t::INNER_JOIN | t::OUTER_JOIN | t::EQ_JOIN => joins::join(ex, args),
        t::MATCH | t::SPLIT | t::UPCASE | t::DOWNCASE | t::JSON | t::TO_JSON_STRING | t::BINARY | t::UUID => {
            text::text(ex, args)
        }
        t::NOW..=t::SECONDS | t::TIME | t::ISO8601 | t::TO_ISO8601 | t::EPOCH_TIME | t::TO_EPOCH_TIME => {
            times::time(ex, args)
        }
        t::INSERT | t::UPDATE | t::REPLACE | t::DELETE | t::FOR_EACH => writes::write(ex, args),
        t::CHANGES => changes::changes(ex, args),
        _ => admin::admin(ex, args),
    }
}

/// The values under which a document stands in an index; none if its function fails or gives what cannot be a key.
pub(crate) fn index_values(index: &Index, doc: &Datum) -> Vec<Datum> {
    let Some(value) = index_value(&index.function, doc) else { return Vec::new() };
    match &value {
        Datum::Array(items) if index.multi => {
            items.iter().filter(|item| crate::datum::key::indexable(item)).cloned().collect()
        }
        value if crate::datum::key::indexable(value) => vec![value.clone()],
        _ => Vec::new(),
    }
}

fn index_value(function: &Arc<Func>, doc: &Datum) -> Option<Datum> {
    // The common case, an index on a field, needs no evaluation.
    if let Term::Call(call) = &function.body
        && call.op == t::BRACKET
        && let [Term::Var(_), Term::Value(Datum::Str(field))] = call.args.as_slice()
    {
        return match doc {
            Datum::Object(object) => object.get(field).cloned(),
            _ => None,
        };
    }
    let env = function.params.first().map_or_else(Env::default, |id| Env::default().bind(*id, doc.clone()));
    let ex = Exec::new(&PURE);
    eval(&ex, &function.body, &env).and_then(|value| value.datum(&ex)).ok()
}

/// Evaluation without a store: an index's function is deterministic, so nothing in it reads.
static PURE: LazyLock<Arc<Query>> = LazyLock::new(|| {
    Arc::new(Query {
        store: None,
        now: Datum::Null,
        array_limit: DEFAULT_ARRAY_LIMIT,
        opts: None,
        cancelled: Arc::default(),
        about: Arc::default(),
        read_only: true,
    })
});

/// Elements an array may have unless the query says otherwise.
pub(crate) const DEFAULT_ARRAY_LIMIT: usize = 100_000;
