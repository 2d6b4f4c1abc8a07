//! Machine-readable reasons of errors.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $wire:literal,)*) => {
        /// The machine-readable reason of an error: `reason` in google.rpc.ErrorInfo, domain `shoreguard`.
        ///
        /// The proto has the same list as `ErrorReason`; a test compares the two.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All reasons.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name in responses.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $wire,)* }
            }
        }
    };
}

reasons! {
    /// A field of the request is invalid.
    InvalidField = "INVALID_FIELD",
    /// The message could not be decoded.
    MalformedMessage = "MALFORMED_MESSAGE",
    /// The object does not exist, or the caller cannot see it.
    NotFound = "NOT_FOUND",
    /// The name is in use.
    AlreadyExists = "ALREADY_EXISTS",
    /// The object has changed since it was read.
    ConcurrentChange = "CONCURRENT_CHANGE",
    /// The caller's role is too low.
    RoleTooLow = "ROLE_TOO_LOW",
    /// No credential was sent.
    CredentialMissing = "CREDENTIAL_MISSING",
    /// The credential is unknown, malformed, expired or revoked.
    CredentialInvalid = "CREDENTIAL_INVALID",
    /// The request has more than one credential, or the same Shoreguard header twice.
    CredentialAmbiguous = "CREDENTIAL_AMBIGUOUS",
    /// The login failed: the credentials do not belong to an account that may log in.
    LoginFailed = "LOGIN_FAILED",
    /// The first admin exists already.
    AlreadySetUp = "ALREADY_SET_UP",
    /// The rate limit is reached.
    RateLimited = "RATE_LIMITED",
    /// A pool or queue is full.
    Busy = "BUSY",
    /// The limit of open calls is reached, per caller, per address or in total.
    TooManyCalls = "TOO_MANY_CALLS",
    /// The limit of open streams per caller is reached.
    TooManyStreams = "TOO_MANY_STREAMS",
    /// The open calls of the caller, or of all callers, hold too many bytes.
    TooManyBytes = "TOO_MANY_BYTES",
    /// The free disk space is below the reserve: only writes of admins are accepted.
    DiskLow = "DISK_LOW",
    /// The call was made with a key or certificate, which has no session.
    NoSession = "NO_SESSION",
    /// The audit log cannot be written, so nothing was done.
    AuditUnavailable = "AUDIT_UNAVAILABLE",
    /// The database does not respond.
    StorageUnavailable = "STORAGE_UNAVAILABLE",
    /// The access data could not be confirmed to be fresh.
    AccessStale = "ACCESS_STALE",
    /// The gateway does not respond.
    GatewayUnreachable = "GATEWAY_UNREACHABLE",
    /// This build does not support the gateway's wire generation, or it is not known yet.
    WireUnsupported = "WIRE_UNSUPPORTED",
    /// Connections to the gateway's address are forbidden.
    AddressForbidden = "ADDRESS_FORBIDDEN",
    /// The method is never forwarded to a gateway.
    MethodNotForwarded = "METHOD_NOT_FORWARDED",
    /// The method does not exist.
    MethodUnknown = "METHOD_UNKNOWN",
    /// The call names no gateway although more than one is visible, or it names two.
    GatewayAmbiguous = "GATEWAY_AMBIGUOUS",
    /// The governed message can be decoded in more than one way.
    MessageAmbiguous = "MESSAGE_AMBIGUOUS",
    /// The message is larger than the limit.
    MessageTooLarge = "MESSAGE_TOO_LARGE",
    /// The sandbox id in the call does not belong to a known sandbox of the gateway.
    SandboxUnplaced = "SANDBOX_UNPLACED",
    /// This build does not know the setting.
    SettingUnknown = "SETTING_UNKNOWN",
    /// The same request id was used with another body.
    RequestIdReused = "REQUEST_ID_REUSED",
    /// A call with the same request id is in progress, or its outcome is unknown.
    RequestInFlight = "REQUEST_IN_FLIGHT",
    /// The last active admin cannot be removed.
    LastAdmin = "LAST_ADMIN",
    /// The position is older than the oldest stored one.
    CursorExpired = "CURSOR_EXPIRED",
    /// The deadline has passed.
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    /// The server is stopping.
    Draining = "DRAINING",
    /// An internal error of the server.
    Internal = "INTERNAL",
    /// The maximum number of objects is reached.
    LimitReached = "LIMIT_REACHED",
    /// The feature is not enabled in the configuration.
    FeatureDisabled = "FEATURE_DISABLED",
    /// The user has no pending invitation or password reset.
    NoInvite = "NO_INVITE",
    /// You cannot do this to your own account.
    OwnAccount = "OWN_ACCOUNT",
    /// A host that the server calls for its own purposes does not respond as required.
    HostUnreachable = "HOST_UNREACHABLE",
    /// The OIDC issuer does not respond as required.
    IssuerUnavailable = "ISSUER_UNAVAILABLE",
    /// The account would have no remaining way to log in.
    NoOtherLogin = "NO_OTHER_LOGIN",
    /// The credential is valid only for the proxied API of one gateway, and this is a different call.
    CredentialBound = "CREDENTIAL_BOUND",
    /// The login of the session is too old for this call: log in again.
    LoginStale = "LOGIN_STALE",
    /// The gateway refused the request.
    GatewayRefused = "GATEWAY_REFUSED",
    /// Another operation on the same object is running.
    OperationRunning = "OPERATION_RUNNING",
    /// The operation has ended.
    OperationEnded = "OPERATION_ENDED",
    /// A previous step of the operation failed.
    OperationFailed = "OPERATION_FAILED",
    /// The identity provider of the gateway does not issue a token.
    GatewayTokenUnavailable = "GATEWAY_TOKEN_UNAVAILABLE",
    /// The gateway does not accept the new credentials.
    CredentialsUnproven = "CREDENTIALS_UNPROVEN",
    /// The gateway has running operations or open streams.
    GatewayInUse = "GATEWAY_IN_USE",
    /// The gateway's generation was set manually and its version indicates another one.
    WireContradicted = "WIRE_CONTRADICTED",
    /// The message belongs to another generation than that of the gateway.
    WireMismatch = "WIRE_MISMATCH",
    /// The gateway's version does not have the method.
    MethodNotSupported = "METHOD_NOT_SUPPORTED",
    /// A discovery run is in progress.
    DiscoveryRunning = "DISCOVERY_RUNNING",
    /// The gateway has sent more data per minute than is accepted from one gateway.
    GatewayOverBudget = "GATEWAY_OVER_BUDGET",
    /// The limit of open streams to the gateway is reached, for the caller or in total.
    GatewayBusy = "GATEWAY_BUSY",
    /// The gateway does not accept the credential that Shoreguard presents.
    GatewayCredentialRefused = "GATEWAY_CREDENTIAL_REFUSED",
    /// SBOMs that an older version stored are still being read again.
    SbomsOutdated = "SBOMS_OUTDATED",
    /// The policy on the gateway is too large, or has a part that this build does not know.
    PolicyUnreadable = "POLICY_UNREADABLE",
    /// The change is under review: it is made once enough voters have approved it.
    ApprovalRequired = "APPROVAL_REQUIRED",
    /// The review has ended, or its change is being written.
    RoundClosed = "ROUND_CLOSED",
    /// The content under review differs from the content that the caller has seen.
    ReviewStale = "REVIEW_STALE",
    /// The vote of the caller does not count.
    NotAVoter = "NOT_A_VOTER",
    /// The caller does not approve a change of its own.
    OwnChange = "OWN_CHANGE",
    /// The principals of the gateway cannot meet the rule.
    QuorumUnreachable = "QUORUM_UNREACHABLE",
    /// A rule forbids the change, and no review of it is possible.
    Governed = "GOVERNED",
    /// The gateway would approve by itself, under an approval workflow.
    ApprovalModeAuto = "APPROVAL_MODE_AUTO",
    /// The policy of the sandbox is pinned.
    PolicyPinned = "POLICY_PINNED",
    /// A write to the same sandbox is in progress.
    WriteInFlight = "WRITE_IN_FLIGHT",
    /// The draft chunk does not have the status that the call requires.
    ChunkStatus = "CHUNK_STATUS",
    /// The change concerns parts of a policy that a running sandbox cannot change.
    PolicyStatic = "POLICY_STATIC",
    /// The drafts of a sandbox are larger than what is read at once.
    DraftsOverflow = "DRAFTS_OVERFLOW",
    /// The webhook is not active.
    WebhookInactive = "WEBHOOK_INACTIVE",
    /// There are as many webhooks as can be.
    WebhookLimit = "WEBHOOK_LIMIT",
    /// Messages of the channel are not signed.
    WebhookNotSigned = "WEBHOOK_NOT_SIGNED",
    /// No user has decided about the login of the device yet.
    DeviceLoginPending = "DEVICE_LOGIN_PENDING",
    /// The login of the device was denied.
    DeviceLoginDenied = "DEVICE_LOGIN_DENIED",
    /// The approval is for another scope than the code.
    DeviceScopeMismatch = "DEVICE_SCOPE_MISMATCH",
    /// The row of the webhook cannot be read by this server.
    WebhookUnreadable = "WEBHOOK_UNREADABLE",
}

impl Reason {
    /// The message for a caller whose credential was not accepted.
    pub(super) fn credential_message(self) -> &'static str {
        if self == Self::CredentialMissing {
            "a credential is needed: send `authorization: Bearer`"
        } else if self == Self::CredentialAmbiguous {
            "send one credential only, and each Shoreguard header at most once"
        } else if self == Self::LoginFailed {
            "login failed: the credentials are wrong, or the account cannot log in"
        } else {
            "the credential is unknown, malformed, expired or revoked"
        }
    }

    /// The message for the limit that was reached.
    #[expect(clippy::wildcard_enum_match_arm, reason = "other reasons are not about a limit")]
    pub(super) fn limit_message(self) -> &'static str {
        match self {
            Self::RateLimited => "too many calls or attempts in a short time",
            Self::Busy => "the server is busy: a pool or queue is full, or the database is locked",
            Self::TooManyCalls => "too many calls are open",
            Self::TooManyStreams => "too many streams are open",
            Self::TooManyBytes => "the open calls hold too many bytes",
            Self::GatewayBusy => "the maximum number of calls or streams to the gateway is open",
            Self::GatewayOverBudget => {
                "the gateway has sent more in this minute than its budget allows"
            }
            Self::DiskLow => {
                "free disk space is below `limits.disk_reserve_mib`: only admins can write"
            }
            Self::LimitReached => "all your request ids on this gateway are in use",
            _ => "a limit is reached",
        }
    }
}
