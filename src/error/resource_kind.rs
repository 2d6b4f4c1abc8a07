//! The kinds of objects that errors name.

/// Kinds of objects that an error can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceKind {
    /// A gateway.
    Gateway,
    /// A user.
    User,
    /// A service principal.
    ServicePrincipal,
    /// A group.
    Group,
    /// A user's membership in a group.
    GroupMember,
    /// The role of a subject on a gateway.
    GatewayRole,
    /// A sandbox of a gateway.
    Sandbox,
    /// The SBOM of a sandbox.
    Sbom,
    /// A revision of a sandbox's policy.
    PolicyRevision,
    /// A preset of policies.
    PolicyPreset,
    /// The pin of a sandbox.
    PolicyPin,
    /// A rule about who must approve.
    ApprovalWorkflow,
    /// A review of one exact content.
    Approval,
    /// A network rule that the agent of a sandbox asks for.
    DraftChunk,
    /// A vote in a review.
    ApprovalDecision,
    /// A write to a gateway in progress.
    WriteIntent,
    /// An entry of the audit log.
    AuditEntry,
    /// An event.
    Event,
    /// A session of a user.
    Session,
    /// An OIDC issuer that users log in with.
    OidcProvider,
    /// A linked identity: the subject that an issuer assigns to a user.
    Identity,
    /// A code that a user enters to approve a device.
    DeviceCode,
    /// A boot hook of a sandbox.
    BootHook,
    /// An idempotency key in use.
    Request,
    /// A lease of a background job.
    Lease,
    /// A long-running operation.
    Operation,
    /// A webhook.
    Webhook,
    /// A message of a webhook.
    WebhookDelivery,
    /// A row without a name in the API.
    Row,
}

impl ResourceKind {
    /// Name of the kind in messages.
    #[must_use]
    pub fn display_name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::User => "user",
            Self::ServicePrincipal => "service principal",
            Self::Group => "group",
            Self::GroupMember => "group member",
            Self::GatewayRole => "gateway role",
            Self::Sandbox => "sandbox",
            Self::Sbom => "SBOM",
            Self::PolicyRevision => "policy revision",
            Self::PolicyPreset => "policy preset",
            Self::PolicyPin => "policy pin",
            Self::ApprovalWorkflow => "approval workflow",
            Self::Approval => "approval",
            Self::DraftChunk => "draft chunk",
            Self::ApprovalDecision => "vote",
            Self::WriteIntent => "write in progress",
            Self::AuditEntry => "audit entry",
            Self::Event => "event",
            Self::Session => "session",
            Self::OidcProvider => "OIDC provider",
            Self::Identity => "linked identity",
            Self::DeviceCode => "device code",
            Self::BootHook => "boot hook",
            Self::Request => "request",
            Self::Lease => "lease",
            Self::Operation => "operation",
            Self::Webhook => "webhook",
            Self::WebhookDelivery => "webhook delivery",
            Self::Row => "row",
        }
    }
}
