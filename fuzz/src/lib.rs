//! What all targets share.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    sync::{LazyLock, atomic::AtomicU64, atomic::Ordering},
};

use libfuzzer_sys::arbitrary::{Arbitrary, Unstructured};

/// The file that FUZZ_CURRENT names.
static CURRENT: LazyLock<Option<File>> = LazyLock::new(|| {
    std::env::var_os("FUZZ_CURRENT").map(|path| File::create(path).expect("FUZZ_CURRENT can be written"))
});
/// How long its content is.
static LENGTH: AtomicU64 = AtomicU64::new(0);

/// A target's input from the fuzzer's bytes; none where they are too few. The bytes are put into the file that FUZZ_CURRENT names, if it is
/// set, so that they are there when a target dies without a word: libFuzzer itself cannot save what overflows a stack.
pub fn input<'a, T: Arbitrary<'a>>(bytes: &'a [u8]) -> Option<T> {
    if let Some(file) = &*CURRENT {
        let length = bytes.len() as u64;
        file.write_all_at(bytes, 0).expect("FUZZ_CURRENT can be written");
        if LENGTH.swap(length, Ordering::Relaxed) > length {
            file.set_len(length).expect("FUZZ_CURRENT can be written");
        }
    }
    T::arbitrary_take_rest(Unstructured::new(bytes)).ok()
}
