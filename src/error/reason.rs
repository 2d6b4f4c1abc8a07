//! The reasons of errors, for programs.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $wire:literal,)*) => {
        /// Why, for programs: the `reason` of google.rpc.ErrorInfo, domain `shoreguard`.
        ///
        /// The same list stands in the proto as `ErrorReason`; a test compares the two.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The reason on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $wire,)* }
            }
        }
    };
}

reasons! {
    /// A field of the request is wrong.
    InvalidField = "INVALID_FIELD",
    /// The message could not be decoded.
    MalformedMessage = "MALFORMED_MESSAGE",
    /// No such thing, or none that the caller may see.
    NotFound = "NOT_FOUND",
    /// The name is taken.
    AlreadyExists = "ALREADY_EXISTS",
    /// The thing has changed since it was read.
    ConcurrentChange = "CONCURRENT_CHANGE",
    /// The caller's role is too low.
    RoleTooLow = "ROLE_TOO_LOW",
    /// No credential was sent.
    CredentialMissing = "CREDENTIAL_MISSING",
    /// The credential is unknown, malformed, expired or revoked.
    CredentialInvalid = "CREDENTIAL_INVALID",
    /// More than one credential, or a header of ours twice.
    CredentialAmbiguous = "CREDENTIAL_AMBIGUOUS",
    /// What was shown at a login is that of no account that may log in.
    LoginFailed = "LOGIN_FAILED",
    /// The first admin exists already.
    AlreadySetUp = "ALREADY_SET_UP",
    /// Too many calls.
    RateLimited = "RATE_LIMITED",
    /// A pool or queue is full.
    Busy = "BUSY",
    /// Too many calls of the caller, its address or all callers are open.
    TooManyCalls = "TOO_MANY_CALLS",
    /// Too many streams of the caller are open.
    TooManyStreams = "TOO_MANY_STREAMS",
    /// The open calls of the caller, or of all callers, hold too many bytes.
    TooManyBytes = "TOO_MANY_BYTES",
    /// The disk is below its reserve: only admins' writes are taken.
    DiskLow = "DISK_LOW",
    /// The call was made with a key or certificate, which has no session.
    NoSession = "NO_SESSION",
    /// The audit log cannot be written, so nothing was done.
    AuditUnavailable = "AUDIT_UNAVAILABLE",
    /// The database does not answer.
    StorageUnavailable = "STORAGE_UNAVAILABLE",
    /// It cannot be confirmed that the access data is fresh.
    AccessStale = "ACCESS_STALE",
    /// The gateway does not answer.
    GatewayUnreachable = "GATEWAY_UNREACHABLE",
    /// The gateway speaks a wire generation that this build does not, or none was found yet.
    WireUnsupported = "WIRE_UNSUPPORTED",
    /// The gateway's address is one that must not be connected to.
    AddressForbidden = "ADDRESS_FORBIDDEN",
    /// The method is never passed on to a gateway.
    MethodNotForwarded = "METHOD_NOT_FORWARDED",
    /// No method of that path.
    MethodUnknown = "METHOD_UNKNOWN",
    /// The call names no gateway and more than one is visible, or it names two.
    GatewayAmbiguous = "GATEWAY_AMBIGUOUS",
    /// The governed message can be read in more than one way.
    MessageAmbiguous = "MESSAGE_AMBIGUOUS",
    /// The message is larger than the limit.
    MessageTooLarge = "MESSAGE_TOO_LARGE",
    /// The sandbox that the call names by id is not known on the gateway.
    SandboxUnplaced = "SANDBOX_UNPLACED",
    /// The setting is not one that this build knows.
    SettingUnknown = "SETTING_UNKNOWN",
    /// The same request id was used with another body.
    RequestIdReused = "REQUEST_ID_REUSED",
    /// A call with the same request id is still running, or its outcome is not known.
    RequestInFlight = "REQUEST_IN_FLIGHT",
    /// The last active admin must stay.
    LastAdmin = "LAST_ADMIN",
    /// The position is older than what is kept.
    CursorExpired = "CURSOR_EXPIRED",
    /// The deadline has passed.
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    /// The server is stopping.
    Draining = "DRAINING",
    /// A fault of the server.
    Internal = "INTERNAL",
    /// There are as many as there may be.
    LimitReached = "LIMIT_REACHED",
    /// The configuration does not have it switched on.
    FeatureDisabled = "FEATURE_DISABLED",
    /// No invitation and no reset of the user waits.
    NoInvite = "NO_INVITE",
    /// Nobody does this to the own account.
    OwnAccount = "OWN_ACCOUNT",
    /// A host that the server calls on its own account does not answer as it must.
    HostUnreachable = "HOST_UNREACHABLE",
    /// The OIDC issuer does not answer as it must.
    IssuerUnavailable = "ISSUER_UNAVAILABLE",
    /// The account would have no way left to log in.
    NoOtherLogin = "NO_OTHER_LOGIN",
    /// The credential is good for the proxied API of one gateway, and the call is another.
    CredentialBound = "CREDENTIAL_BOUND",
    /// The login behind the session is too long ago for this: log in again.
    LoginStale = "LOGIN_STALE",
    /// The gateway has refused it.
    GatewayRefused = "GATEWAY_REFUSED",
    /// An operation on the same thing is running.
    OperationRunning = "OPERATION_RUNNING",
    /// The operation has ended.
    OperationEnded = "OPERATION_ENDED",
    /// What had to be done first has failed.
    OperationFailed = "OPERATION_FAILED",
    /// The identity provider of a gateway gives no token for it.
    GatewayTokenUnavailable = "GATEWAY_TOKEN_UNAVAILABLE",
    /// The gateway does not take the new credentials.
    CredentialsUnproven = "CREDENTIALS_UNPROVEN",
    /// Operations or streams of the gateway are going on.
    GatewayInUse = "GATEWAY_IN_USE",
    /// The gateway's generation was set by hand and its version tells another.
    WireContradicted = "WIRE_CONTRADICTED",
    /// The message is of another generation than the gateway's.
    WireMismatch = "WIRE_MISMATCH",
    /// The gateway's version does not have the method.
    MethodNotSupported = "METHOD_NOT_SUPPORTED",
    /// A look for gateways is going on.
    DiscoveryRunning = "DISCOVERY_RUNNING",
    /// The gateway has told more in a minute than is taken of one.
    GatewayOverBudget = "GATEWAY_OVER_BUDGET",
    /// As many streams to the gateway are open as may be, of the caller or of all callers.
    GatewayBusy = "GATEWAY_BUSY",
    /// The gateway does not accept the credential that we present to it.
    GatewayCredentialRefused = "GATEWAY_CREDENTIAL_REFUSED",
}

impl Reason {
    /// What a caller is told whose credential was not taken.
    pub(super) fn of_a_credential(self) -> &'static str {
        if self == Self::CredentialMissing {
            "a credential is needed: send `authorization: Bearer`"
        } else if self == Self::CredentialAmbiguous {
            "exactly one credential is taken, and each header once"
        } else if self == Self::LoginFailed {
            "what was shown is that of no account that may log in"
        } else {
            "the credential is unknown, malformed, expired or revoked"
        }
    }

    /// Names the bound that is reached.
    pub(super) fn of_a_bound(self) -> &'static str {
        if self == Self::TooManyCalls {
            "too many calls are open"
        } else if self == Self::TooManyStreams {
            "too many streams are open"
        } else if self == Self::TooManyBytes {
            "the open calls hold too many bytes"
        } else {
            "too much at once"
        }
    }
}
