//! What libhdfs's errors mean to the store. Of a Java exception only a number arrives; its text is in this process's
//! standard error, where libhdfs prints it.

use std::io::{self, ErrorKind as K};

use crate::StoreError;

/// An answer `false`: HDFS gives no reason.
const FALSE: i32 = 5;

/// An exception that libhdfs has no number for.
const UNEXPLAINED: i32 = 255;

/// Whether Java said no without an exception.
pub(super) fn is_false(error: &io::Error) -> bool {
    error.raw_os_error() == Some(FALSE)
}

/// Whether it is an exception that libhdfs has no number for, as those of connections are.
pub(super) fn is_unexplained(error: &io::Error) -> bool {
    error.raw_os_error() == Some(UNEXPLAINED)
}

/// Sorts an error into a kind.
pub(super) fn sort(operation: &'static str, path: &str, error: io::Error) -> StoreError {
    let path = path.to_owned();
    let unavailable = |why: &str| StoreError::Unavailable { operation, path: path.clone(), why: why.to_owned() };
    let conflict = |why: &str| StoreError::Conflict { operation, path: path.clone(), why: why.to_owned() };
    if error.raw_os_error().is_none() {
        return StoreError::from_io(operation, path, error);
    }
    match error.kind() {
        K::NotFound => StoreError::NotFound { operation, path },
        K::ReadOnlyFilesystem => unavailable("the name node is in safe mode (SafeModeException)"),
        K::PermissionDenied => StoreError::Denied { operation, path, source: error },
        K::QuotaExceeded | K::StorageFull => StoreError::Full { operation, path, source: error },
        K::AlreadyExists => conflict("something lies there already"),
        K::NotADirectory => conflict("what should be a directory is none"),
        K::StaleNetworkFileHandle => conflict("the upload was taken away by somebody"),
        K::InvalidInput => StoreError::Io { operation, path, source: error },
        _ if is_false(&error) => unavailable("HDFS said no, without a reason"),
        _ => unavailable("Java's client failed; the exception is in this process's standard error"),
    }
}

/// The client stops at names that are no UTF-8 after libhdfs has handed them over, and at times before 1970.
pub(super) fn unreadable(operation: &'static str, path: &str) -> StoreError {
    let source = io::Error::other("a name or time there cannot be read by libhdfs; HDFS_CLIENT: native can");
    StoreError::Io { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_meanings() {
        let sorted = |number| sort("stat", "/x", io::Error::from_raw_os_error(number));
        assert!(sorted(2).is_not_found());
        for number in [5, 12, 30, 255] {
            assert!(matches!(sorted(number), StoreError::Unavailable { .. }), "{number}");
        }
        assert!(matches!(sorted(13), StoreError::Denied { .. }));
        assert!(matches!(sorted(122), StoreError::Full { .. }));
        for number in [17, 20, 116] {
            assert!(matches!(sorted(number), StoreError::Conflict { .. }), "{number}");
        }
        let unexplained = |number| is_unexplained(&io::Error::from_raw_os_error(number));
        assert!(unexplained(255) && !unexplained(5) && !unexplained(2) && !unexplained(30));
    }
}
