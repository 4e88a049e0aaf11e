//! Small safe-to-read wrappers over PostgreSQL's C structures: lists, strings, nodes.

use std::ffi::{CStr, CString, c_char};

use pgrx::pg_sys;

/// The pointers in a list of nodes.
///
/// # Safety
/// `list` is NIL or a valid list of pointers to `T`, and is not changed while the iterator lives.
pub(crate) unsafe fn list<T>(list: *mut pg_sys::List) -> impl ExactSizeIterator<Item = *mut T> + Clone {
    let len = if list.is_null() { 0 } else { unsafe { (*list).length as usize } };
    // SAFETY: a list's `elements` holds `length` cells.
    (0..len).map(move |i| unsafe { (*(*list).elements.add(i)).ptr_value.cast::<T>() })
}

/// The length of a list.
///
/// # Safety
/// `list` is NIL or valid.
pub(crate) unsafe fn list_len(list: *mut pg_sys::List) -> usize {
    if list.is_null() { 0 } else { unsafe { (*list).length as usize } }
}

/// A list of the pointers, in the current memory context.
///
/// # Safety
/// Every pointer is a node.
pub(crate) unsafe fn make_list<T>(items: impl IntoIterator<Item = *mut T>) -> *mut pg_sys::List {
    items.into_iter().fold(std::ptr::null_mut(), |list, item| unsafe { pg_sys::lappend(list, item.cast()) })
}

/// A node's tag.
///
/// # Safety
/// `node` is a valid node.
pub(crate) unsafe fn tag(node: *const pg_sys::Node) -> pg_sys::NodeTag {
    unsafe { (*node).type_ }
}

/// Whether a node has a tag; a null pointer has none.
///
/// # Safety
/// `node` is null or a valid node.
pub(crate) unsafe fn is_a(node: *const pg_sys::Node, tag: pg_sys::NodeTag) -> bool {
    !node.is_null() && unsafe { (*node).type_ == tag }
}

/// A C string as Rust's; bytes that are not UTF-8 are replaced.
///
/// # Safety
/// `text` is null or NUL-terminated.
pub(crate) unsafe fn text(text: *const c_char) -> String {
    if text.is_null() { String::new() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() }
}

/// A C string for PostgreSQL; NULs cannot occur in what we pass and are dropped.
pub(crate) fn cstring(text: &str) -> CString {
    CString::new(text.replace('\0', "")).expect("NULs were removed")
}

/// A palloc'ed C string in the current memory context.
pub(crate) fn pstrdup(text: &str) -> *mut c_char {
    let text = cstring(text);
    // SAFETY: the argument is NUL-terminated; pstrdup copies it.
    unsafe { pg_sys::pstrdup(text.as_ptr()) }
}

/// A String value node.
pub(crate) fn string_node(text: &str) -> *mut pg_sys::Node {
    // SAFETY: makeString keeps the palloc'ed copy.
    unsafe { pg_sys::makeString(pstrdup(text)).cast() }
}

/// A relation's name, as it is (not quoted).
pub(crate) fn relation_name(relid: pg_sys::Oid) -> String {
    // SAFETY: get_rel_name returns null for an unknown OID.
    unsafe { text(pg_sys::get_rel_name(relid)) }
}

/// A type's name, as `format_type` gives it.
pub(crate) fn type_name(type_oid: pg_sys::Oid) -> String {
    // SAFETY: format_type_be answers for any OID.
    unsafe { text(pg_sys::format_type_be(type_oid)) }
}

/// The bytes of a detoasted varlena.
///
/// # Safety
/// `datum` is a varlena; the result lives as long as the current memory context and the datum.
#[inline]
pub(crate) unsafe fn varlena_bytes<'a>(datum: pg_sys::Datum) -> &'a [u8] {
    unsafe {
        let varlena = datum.cast_mut_ptr::<pg_sys::varlena>();
        // Asking PostgreSQL costs more than most texts are long.
        let plain = pgrx::varatt_is_4b_u(varlena) || pgrx::varatt_is_1b(varlena) && !pgrx::varatt_is_1b_e(varlena);
        let detoasted = if plain { varlena } else { pg_sys::pg_detoast_datum_packed(varlena) };
        let len = pgrx::varsize_any_exhdr(detoasted);
        std::slice::from_raw_parts(pgrx::vardata_any(detoasted).cast::<u8>(), len)
    }
}

/// Whether the database's texts are UTF-8 as they are.
#[inline]
pub(crate) fn is_utf8() -> bool {
    static UTF8: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    // SAFETY: the encoding is set before a backend runs its first query, and never changes.
    *UTF8.get_or_init(|| unsafe { pg_sys::GetDatabaseEncoding() } == pg_sys::pg_enc::PG_UTF8 as i32)
}

/// A varlena of the bytes, in the current memory context.
pub(crate) fn make_varlena(bytes: &[u8]) -> pg_sys::Datum {
    let size = bytes.len() + pg_sys::VARHDRSZ;
    // SAFETY: the allocation has room for the header and the bytes.
    unsafe {
        let varlena = pg_sys::palloc(size).cast::<pg_sys::varlena>();
        pgrx::set_varsize_4b(varlena, size as i32);
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), varlena.cast::<u8>().add(pg_sys::VARHDRSZ), bytes.len());
        pg_sys::Datum::from(varlena)
    }
}
