//! The reasons a call can fail: what clients branch on.
//!
//! Owns the one table that ties a reason to its gRPC code and to the exit code
//! of the CLI. The daemon writes reasons into `google.rpc.ErrorInfo` of domain
//! [`DOMAIN`]; the client reads them back with [`Reason::parse`].

/// `ErrorInfo.domain` of every error of episoded.
pub const DOMAIN: &str = "episoded";

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $code:ident, $exit:literal;)*) => {
        /// One condition that a client can branch on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable text in `ErrorInfo.reason`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The number of its `google.rpc.Code`.
            pub const fn code(self) -> i32 {
                match self { $(Self::$variant => $code,)* }
            }

            /// The exit code of a CLI that ends because of it.
            pub const fn exit_code(self) -> u8 {
                match self { $(Self::$variant => $exit,)* }
            }
        }
    };
}

const CANCELLED: i32 = 1;
const INVALID_ARGUMENT: i32 = 3;
const DEADLINE_EXCEEDED: i32 = 4;
const NOT_FOUND: i32 = 5;
const ALREADY_EXISTS: i32 = 6;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const FAILED_PRECONDITION: i32 = 9;
const ABORTED: i32 = 10;
const OUT_OF_RANGE: i32 = 11;
const UNIMPLEMENTED: i32 = 12;
const INTERNAL: i32 = 13;
const UNAVAILABLE: i32 = 14;
const UNAUTHENTICATED: i32 = 16;

reasons! {
    /// The message, or a field without a reason of its own, is malformed.
    MalformedMessage = "MALFORMED_MESSAGE", INVALID_ARGUMENT, 65;
    /// The session id has the wrong form.
    InvalidSessionId = "INVALID_SESSION_ID", INVALID_ARGUMENT, 65;
    /// A deadline or duration is out of range.
    InvalidTtl = "INVALID_TTL", INVALID_ARGUMENT, 65;
    /// The path is not one.
    InvalidPath = "INVALID_PATH", INVALID_ARGUMENT, 65;
    /// The manifest has faults; each is named.
    InvalidManifest = "INVALID_MANIFEST", INVALID_ARGUMENT, 65;
    /// The page token is not one of this list and filter.
    InvalidPageToken = "INVALID_PAGE_TOKEN", INVALID_ARGUMENT, 65;
    /// Unknown, revoked, expired or ended handle: one answer for all.
    HandleNotAccepted = "HANDLE_NOT_ACCEPTED", UNAUTHENTICATED, 77;
    /// Only on operator.sock, or not about another session.
    OperatorOnly = "OPERATOR_ONLY", PERMISSION_DENIED, 77;
    /// The socket belongs to a daemon of another user.
    PeerMismatch = "PEER_MISMATCH", PERMISSION_DENIED, 77;
    /// A read outside the manifest.
    ContextMiss = "CONTEXT_MISS", PERMISSION_DENIED, 77;
    /// The class of tools is not allowed, or it is no known request.
    ToolNotAllowed = "TOOL_NOT_ALLOWED", PERMISSION_DENIED, 77;
    /// A write outside what is writable.
    WritePathNotAllowed = "WRITE_PATH_NOT_ALLOWED", PERMISSION_DENIED, 77;
    /// No rule fits the command.
    CommandNotAllowed = "COMMAND_NOT_ALLOWED", PERMISSION_DENIED, 77;
    /// The content is not the pinned one.
    ContentHashMismatch = "CONTENT_HASH_MISMATCH", PERMISSION_DENIED, 77;
    /// The entry is only for readers that show its hash.
    ContentHashRequired = "CONTENT_HASH_REQUIRED", PERMISSION_DENIED, 77;
    /// Not in its exact list.
    ToolArgsNotAllowed = "TOOL_ARGS_NOT_ALLOWED", PERMISSION_DENIED, 77;
    /// No such session.
    SessionNotFound = "SESSION_NOT_FOUND", NOT_FOUND, 66;
    /// No such process to bind to.
    ProcessNotFound = "PROCESS_NOT_FOUND", NOT_FOUND, 66;
    /// No manifest of that hash is stored.
    ManifestNotFound = "MANIFEST_NOT_FOUND", NOT_FOUND, 66;
    /// No such refinement.
    RefinementNotFound = "REFINEMENT_NOT_FOUND", NOT_FOUND, 66;
    /// The file is allowed and not there.
    FileNotFound = "FILE_NOT_FOUND", NOT_FOUND, 66;
    /// The session id is taken, by a live or a remembered session.
    SessionExists = "SESSION_EXISTS", ALREADY_EXISTS, 65;
    /// The request id was used with another body.
    RequestIdReused = "REQUEST_ID_REUSED", ALREADY_EXISTS, 65;
    /// The session has ended.
    SessionTerminated = "SESSION_TERMINATED", FAILED_PRECONDITION, 6;
    /// The session was bound or its handle used: it cannot be taken back.
    SessionInUse = "SESSION_IN_USE", FAILED_PRECONDITION, 6;
    /// The session is bound to another episode.
    AlreadyBound = "ALREADY_BOUND", FAILED_PRECONDITION, 6;
    /// Another holds the session's lease.
    LeaseHeld = "LEASE_HELD", FAILED_PRECONDITION, 6;
    /// The work id has a live session already.
    WorkBusy = "WORK_BUSY", FAILED_PRECONDITION, 6;
    /// The session was registered without a firewall.
    NoFirewall = "NO_FIREWALL", FAILED_PRECONDITION, 6;
    /// The work id has had its refinements.
    MaxRefinementsExceeded = "MAX_REFINEMENTS_EXCEEDED", FAILED_PRECONDITION, 6;
    /// Another answer was faster; its successor goes on.
    RefinementAnswered = "REFINEMENT_ANSWERED", FAILED_PRECONDITION, 6;
    /// The refinement was declined or has expired.
    RefinementClosed = "REFINEMENT_CLOSED", FAILED_PRECONDITION, 6;
    /// What is allowed there is a directory, a device, a link: no plain file.
    NotAFile = "NOT_A_FILE", FAILED_PRECONDITION, 6;
    /// The file cannot be read, or not safely on this host.
    FileUnreadable = "FILE_UNREADABLE", FAILED_PRECONDITION, 6;
    /// A backup runs already.
    BackupRunning = "BACKUP_RUNNING", FAILED_PRECONDITION, 6;
    /// No memory can be locked, and keys are kept in no other.
    SecureMemoryUnavailable = "SECURE_MEMORY_UNAVAILABLE", FAILED_PRECONDITION, 6;
    /// The channel was not opened on this connection: open another.
    ChannelUnknown = "CHANNEL_UNKNOWN", FAILED_PRECONDITION, 6;
    /// The session changed since the etag was read.
    StaleEtag = "STALE_ETAG", ABORTED, 75;
    /// All keys were forgotten while this one arrived, or the machine is about to sleep.
    KeysWiped = "KEYS_WIPED", ABORTED, 75;
    /// The registry is full.
    SessionQuota = "SESSION_QUOTA", RESOURCE_EXHAUSTED, 75;
    /// No locked memory is left for another key, or there are too many.
    CacheFull = "CACHE_FULL", RESOURCE_EXHAUSTED, 75;
    /// As many manifests are stored as may be.
    ManifestQuota = "MANIFEST_QUOTA", RESOURCE_EXHAUSTED, 75;
    /// The file is over the limit.
    FileTooLarge = "FILE_TOO_LARGE", RESOURCE_EXHAUSTED, 75;
    /// The caller is too fast, or the daemon too busy.
    RateLimited = "RATE_LIMITED", RESOURCE_EXHAUSTED, 75;
    /// The disk is full; reads go on.
    DiskFull = "DISK_FULL", RESOURCE_EXHAUSTED, 75;
    /// The message is over the limit of its socket.
    MessageTooLarge = "MESSAGE_TOO_LARGE", RESOURCE_EXHAUSTED, 75;
    /// The call's deadline passed; the outcome of a write is unknown.
    DeadlineExceeded = "DEADLINE_EXCEEDED", DEADLINE_EXCEEDED, 75;
    /// The caller went away.
    Cancelled = "CANCELLED", CANCELLED, 130;
    /// No such method here.
    MethodUnknown = "METHOD_UNKNOWN", UNIMPLEMENTED, 69;
    /// The events after that revision are no longer kept.
    RevisionCompacted = "REVISION_COMPACTED", OUT_OF_RANGE, 65;
    /// That revision has not happened yet.
    RevisionUnknown = "REVISION_UNKNOWN", OUT_OF_RANGE, 65;
    /// The bookmark is of another registry.
    RegistryChanged = "REGISTRY_CHANGED", OUT_OF_RANGE, 65;
    /// The daemon is stopping or not yet serving.
    ShuttingDown = "SHUTTING_DOWN", UNAVAILABLE, 69;
    /// The store failed; the outcome of a write is unknown.
    StoreFailed = "STORE_FAILED", UNAVAILABLE, 69;
    /// episoded does not answer, and only it knows whose a key is.
    EpisodedUnavailable = "EPISODED_UNAVAILABLE", UNAVAILABLE, 69;
    /// A bug.
    Internal = "INTERNAL", INTERNAL, 70;
}

impl Reason {
    /// The reason with that text, if it is one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Reason;

    #[test]
    fn every_reason_has_a_text_of_its_own_and_reads_back() {
        let texts: HashSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(texts.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        }
        assert_eq!(Reason::parse("NO_SUCH_REASON"), None);
    }
}
