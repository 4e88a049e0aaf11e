//! The functions behind an aggregate: which they are, and how they are called outside of an Agg node.

use pgrx::pg_sys;

use crate::plandata::Finish;

/// `pg_aggregate`'s columns, the same in 14 to 18.
const FINAL: pg_sys::AttrNumber = 5;
const DESERIALIZE: pg_sys::AttrNumber = 8;

/// What makes an aggregate's result of its transition state, as a partial aggregate hands it over.
pub(crate) fn finish(aggregate: pg_sys::Oid) -> Finish {
    // SAFETY: a catalog look-up, released again.
    let [function, deserialize] = unsafe {
        let cache = pg_sys::SysCacheIdentifier::AGGFNOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(aggregate));
        if tuple.is_null() {
            return Finish::Same;
        }
        let found = [FINAL, DESERIALIZE].map(|attribute| {
            let mut null = false;
            let datum = pg_sys::SysCacheGetAttr(cache, tuple, attribute, &mut null);
            if null { 0 } else { datum.value() as u32 }
        });
        pg_sys::ReleaseSysCache(tuple);
        found
    };
    match (deserialize, function) {
        (0, 0) => Finish::Same,
        (0, function) => Finish::Function(function),
        (deserialize, function) => Finish::Deserialized(deserialize, function),
    }
}

/// A function of an aggregate's state, looked up once.
pub(crate) struct StateFunction {
    info: Box<pg_sys::FmgrInfo>,
    /// What the function takes for the Agg node that calls it.
    caller: *mut pg_sys::Node,
}

impl StateFunction {
    /// The function; its information lives in the current memory context.
    pub(crate) fn new(function: pg_sys::Oid) -> Self {
        let mut info = Box::new(pg_sys::FmgrInfo::default());
        // SAFETY: the function exists, its information stays in the Box. Functions of aggregates only look at their
        // caller's tag unless they ask for its memory context, which those of one call need not.
        let caller = unsafe {
            pg_sys::fmgr_info(function, &mut *info);
            let caller = pg_sys::palloc0(size_of::<pg_sys::AggState>()).cast::<pg_sys::Node>();
            (*caller).type_ = pg_sys::NodeTag::T_AggState;
            caller
        };
        Self { info, caller }
    }

    /// The function of a state; a second argument, as deserializing functions declare it, is null.
    pub(crate) fn call(&mut self, state: pg_sys::Datum) -> Option<pg_sys::Datum> {
        const ARGS: usize = 2;
        #[repr(C)]
        struct Call {
            info: pg_sys::FunctionCallInfoBaseData,
            args: [pg_sys::NullableDatum; ARGS],
        }
        let argument = |value| pg_sys::NullableDatum { value, isnull: false };
        let mut call = Call {
            info: pg_sys::FunctionCallInfoBaseData {
                flinfo: &mut *self.info,
                context: self.caller.cast(),
                nargs: self.info.fn_nargs,
                ..pg_sys::FunctionCallInfoBaseData::default()
            },
            args: [argument(state), argument(pg_sys::Datum::null())],
        };
        let function = self.info.fn_addr.expect("fmgr_info sets it");
        // SAFETY: the arguments follow the structure, as its last field, of no length, says; errors become panics.
        let datum = unsafe {
            let info = (&raw mut call).cast::<pg_sys::FunctionCallInfoBaseData>();
            pg_sys::ffi::pg_guard_ffi_boundary(|| function(info))
        };
        (!call.info.isnull).then_some(datum)
    }
}
