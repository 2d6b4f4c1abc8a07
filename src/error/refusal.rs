//! How a gateway refuses a request, or ends it without a status.

/// Kind of a gateway's refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayRefusal {
    /// The request is invalid.
    Invalid,
    /// The object does not exist.
    NotFound,
    /// The object already exists.
    AlreadyExists,
    /// The gateway's state, or the role of the credential that was presented to it, does not allow it.
    Refused,
    /// The object has changed in the meantime.
    Changed,
    /// The gateway does not report whether a request with this id was carried out.
    Uncertain,
    /// A limit of the gateway is reached.
    Exhausted,
    /// The gateway does not have the method.
    Unimplemented,
    /// The gateway is currently not able to.
    Unavailable,
    /// The gateway's deadline passed; it may have carried out the request anyway.
    DeadlineExceeded,
    /// The gateway failed.
    Failed,
    /// The call ended without a status of the gateway: a front end answered, or the stream was reset.
    Broken(BrokenCode),
}

impl GatewayRefusal {
    /// Whether the gateway has reported the outcome. Otherwise it may still carry out the request.
    #[must_use]
    pub fn reports_outcome(self) -> bool {
        match self {
            Self::Uncertain
            | Self::DeadlineExceeded
            | Self::Broken(
                BrokenCode::Cancelled
                | BrokenCode::ResourceExhausted
                | BrokenCode::PermissionDenied
                | BrokenCode::Internal,
            ) => false,
            Self::Invalid
            | Self::NotFound
            | Self::AlreadyExists
            | Self::Refused
            | Self::Changed
            | Self::Exhausted
            | Self::Unimplemented
            | Self::Unavailable
            | Self::Failed
            | Self::Broken(BrokenCode::Unimplemented) => true,
        }
    }
}

/// Code that the gRPC specification assigns to an end without a status. `Unavailable` is an error of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenCode {
    /// The stream was canceled.
    Cancelled,
    /// The peer is overloaded.
    ResourceExhausted,
    /// The connection is not secure enough for the peer.
    PermissionDenied,
    /// A front end does not know the path: the gateway has not received the request.
    Unimplemented,
    /// Any other end.
    Internal,
}
