//! What HDFS's errors mean to the store.

use std::io;

use hdfs_native::HdfsError;

use crate::StoreError;

/// Java classes of answers that say: not now.
const NOT_NOW: &[&str] = &[
    "org.apache.hadoop.hdfs.server.namenode.SafeModeException",
    "org.apache.hadoop.ipc.StandbyException",
    "org.apache.hadoop.ipc.ObserverRetryOnActiveException",
    "org.apache.hadoop.ipc.RetriableException",
    "org.apache.hadoop.ipc.RpcServerException",
    "org.apache.hadoop.ipc.RpcNoSuchMethodException",
    "org.apache.hadoop.hdfs.server.namenode.UnsupportedActionException",
    "org.apache.hadoop.hdfs.server.namenode.NotReplicatedYetException",
];

/// Sorts an error of the client into a kind.
pub(super) fn sort(operation: &'static str, path: &str, error: HdfsError) -> StoreError {
    let path = path.to_owned();
    let text = error.to_string();
    let unavailable = |why: String| StoreError::Unavailable { operation, path: path.clone(), why };
    let other = |kind: io::ErrorKind| io::Error::new(kind, text.clone());
    match error {
        HdfsError::FileNotFound(_) => StoreError::NotFound { operation, path },
        HdfsError::AlreadyExists(_) => StoreError::Conflict { operation, path, why: first_line(&text) },
        // The text would go on with all that is known of each.
        HdfsError::DataTransferError(message) if message.starts_with("All DataNodes failed") => {
            unavailable("none of the data nodes that have it answers".into())
        }
        // Whatever goes wrong with a connection says nothing about what the store holds.
        HdfsError::IOError(_)
        | HdfsError::DataTransferError(_)
        | HdfsError::BlocksNotFound(_)
        | HdfsError::OperationFailed(_)
        | HdfsError::InvalidRPCResponse(_)
        | HdfsError::InternalError(_) => unavailable(first_line(&text)),
        HdfsError::ChecksumError => StoreError::Damaged {
            operation,
            path,
            why: "no data node has it with the checksum it was written with".into(),
        },
        HdfsError::SASLError(_) | HdfsError::GSSAPIError(..) | HdfsError::NoSASLMechanism => {
            StoreError::Denied { operation, path, source: other(io::ErrorKind::PermissionDenied) }
        }
        HdfsError::RPCError(class, message) | HdfsError::FatalRPCError(class, message) => {
            let message = first_line(&message);
            let source =
                |kind| io::Error::new(kind, format!("{}: {message}", class.rsplit('.').next().unwrap_or(&class)));
            match class.rsplit(['.', '$']).next().unwrap_or_default() {
                "FileNotFoundException" => StoreError::NotFound { operation, path },
                // An older upload's answer that was lost, or somebody removed it.
                "LeaseExpiredException" | "PathIsNotEmptyDirectoryException" | "ParentNotDirectoryException" => {
                    StoreError::Conflict { operation, path, why: message }
                }
                "AccessControlException" | "AuthorizationException" | "InvalidToken" | "SaslException" => {
                    StoreError::Denied { operation, path, source: source(io::ErrorKind::PermissionDenied) }
                }
                "DSQuotaExceededException"
                | "NSQuotaExceededException"
                | "QuotaExceededException"
                | "QuotaByStorageTypeExceededException" => {
                    StoreError::Full { operation, path, source: source(io::ErrorKind::QuotaExceeded) }
                }
                _ if NOT_NOW.contains(&class.as_str()) => unavailable(source(io::ErrorKind::Other).to_string()),
                // No data node can take a block: all are down, or full.
                _ if message.contains("could only be written to") => unavailable(message),
                _ => StoreError::Io { operation, path, source: source(io::ErrorKind::Other) },
            }
        }
        _ => StoreError::Io { operation, path, source: other(io::ErrorKind::Other) },
    }
}

/// A Java exception's text goes on with its stack.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
