//! Rust values that live as long as a PostgreSQL memory context.
//!
//! `EndForeignScan` and its kin are not called when a statement fails; a context's reset callback always is. What a
//! callback needs is therefore owned by a context, and dropped with it.

use std::ffi::c_void;

use pgrx::pg_sys;

/// Hands `value` to a memory context, which drops it when it is reset or deleted.
///
/// # Safety
/// `context` is a valid memory context, and the returned pointer is not used after its reset.
pub(crate) unsafe fn own<T>(context: pg_sys::MemoryContext, value: T) -> *mut T {
    unsafe extern "C-unwind" fn drop_boxed<T>(value: *mut c_void) {
        // SAFETY: made by Box::into_raw below, and the context calls each callback once.
        drop(unsafe { Box::from_raw(value.cast::<T>()) });
    }
    // SAFETY: the callback record is allocated in the context itself, as PostgreSQL asks; it is zeroed and then filled.
    unsafe {
        let callback = pg_sys::MemoryContextAllocZero(context, size_of::<pg_sys::MemoryContextCallback>())
            .cast::<pg_sys::MemoryContextCallback>();
        let value = Box::into_raw(Box::new(value));
        (*callback).func = Some(drop_boxed::<T>);
        (*callback).arg = value.cast();
        pg_sys::MemoryContextRegisterResetCallback(context, callback);
        value
    }
}
