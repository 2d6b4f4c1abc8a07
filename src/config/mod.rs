//! The configuration. It is read once at startup from a TOML file, the environment and flags; later sources override
//! earlier ones.
//!
//! Invariants
//! - each key is documented in the file of its section with its unit, its default and the reason for the default;
//! - an unknown key, an unknown `SHOREGUARD_` variable or a value out of range prevents the start, and all faults are
//!   reported at once;
//! - a secret is never printed, and is never accepted from a flag, since other users of the host can read flags;
//! - no other module of the crate reads the environment.

mod access;
mod approvals;
mod audit;
mod auth;
mod boot_hooks;
mod database;
mod discovery;
mod events;
mod fault;
mod followers;
mod gateways;
mod keys;
mod limits;
mod oidc;
mod operations;
mod policies;
mod postgres_url;
mod read;
mod sandboxes;
mod server;
mod shown;
mod sources;
mod telemetry;
#[cfg(test)]
mod tests;
mod tls;
mod token_service;
mod webhooks;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use access::Access;
pub use approvals::Approvals;
pub use audit::Audit;
pub use auth::Auth;
pub use boot_hooks::BootHooks;
pub use database::{Database, DatabaseUrl};
pub use discovery::Discovery;
pub use events::Events;
pub use fault::{Fault, Faults};
pub use followers::Followers;
pub use gateways::Gateways;
pub use keys::Keys;
pub use limits::Limits;
pub use oidc::{Condition, Oidc, OidcProvider, OidcRule, RULE_PRINCIPAL_PREFIX};
pub use operations::Operations;
pub use policies::Policies;
pub use postgres_url::PostgresUrl;
pub use sandboxes::Sandboxes;
pub use server::Server;
pub use telemetry::{LogFormat, Telemetry};
pub use tls::{ClientIdentity, Tls};
pub use token_service::TokenService;
pub use webhooks::Webhooks;

/// All settings of an operator.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// Where the server listens and how it accepts calls.
    pub server: Server,
    /// Where the state is stored.
    pub database: Database,
    /// Master keys that seal stored secrets.
    pub keys: Keys,
    /// Limits on what one address or caller can use.
    pub limits: Limits,
    /// How the server connects to gateways.
    pub gateways: Gateways,
    /// How gateways are discovered.
    pub discovery: Discovery,
    /// How fresh the access data must be.
    pub access: Access,
    /// Sessions, invitations and self-registration.
    pub auth: Auth,
    /// OIDC issuers.
    pub oidc: Oidc,
    /// How stock OpenShell clients get tokens.
    pub token_service: TokenService,
    /// How audit entries are stored.
    pub audit: Audit,
    /// How long events are stored.
    pub events: Events,
    /// How long operations are stored.
    pub operations: Operations,
    /// Timeouts and polling of sandboxes, and templates.
    pub sandboxes: Sandboxes,
    /// How long reviews of changes are stored.
    pub approvals: Approvals,
    /// Presets of policies, and the first policy of sandboxes under a rule.
    pub policies: Policies,
    /// Which data of sandboxes is read without a caller who watches.
    pub followers: Followers,
    /// Commands that can run before a sandbox is created.
    pub boot_hooks: BootHooks,
    /// Which receivers of webhooks are allowed, and how long deliveries are stored.
    pub webhooks: Webhooks,
    /// Logs, metrics and traces.
    pub telemetry: Telemetry,
}

/// Sources of the configuration besides the environment.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The TOML file, if one was named.
    pub file: Option<&'a Path>,
    /// Pairs of `section.key` and value from flags.
    pub flags: &'a [(String, String)],
}

impl Config {
    /// Reads the file, the environment and flags, and checks the result.
    pub fn load(sources: &Sources<'_>) -> Result<Self, Faults> {
        let text = sources.file.map(read_file).transpose()?;
        Self::assemble(text.as_deref(), std::env::vars_os(), sources.flags)
    }

    /// Reads a TOML text without the environment, for tests and `shoreguard dev`.
    pub fn from_toml(text: &str) -> Result<Self, Faults> {
        Self::assemble(Some(text), [], &[])
    }

    fn assemble(
        text: Option<&str>,
        environment: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
        flags: &[(String, String)],
    ) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let mut sections = sources::parse_file(text.unwrap_or_default(), &mut faults);
        sources::apply_environment(&mut sections, environment, &mut faults);
        sources::apply_flags(&mut sections, flags, &mut faults);
        let config = Self::read(sections, &mut faults);
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(faults),
        }
    }

    /// Reads and checks every section, even if another one has faults, so that all faults are listed.
    fn read(mut sections: toml::Table, faults: &mut Faults) -> Option<Self> {
        let server: Option<Server> = read::read_section(&mut sections, "server", faults);
        let database: Option<Database> = read::read_section(&mut sections, "database", faults);
        let keys: Option<Keys> = read::read_section(&mut sections, "keys", faults);
        let limits: Option<Limits> = read::read_section(&mut sections, "limits", faults);
        let gateways: Option<Gateways> = read::read_section(&mut sections, "gateways", faults);
        let discovery: Option<Discovery> = read::read_section(&mut sections, "discovery", faults);
        let access: Option<Access> = read::read_section(&mut sections, "access", faults);
        let auth: Option<Auth> = read::read_section(&mut sections, "auth", faults);
        let oidc: Option<Oidc> = read::read_section(&mut sections, "oidc", faults);
        let token_service: Option<TokenService> =
            read::read_section(&mut sections, "token_service", faults);
        let audit: Option<Audit> = read::read_section(&mut sections, "audit", faults);
        let events: Option<Events> = read::read_section(&mut sections, "events", faults);
        let operations: Option<Operations> =
            read::read_section(&mut sections, "operations", faults);
        let sandboxes: Option<Sandboxes> = read::read_section(&mut sections, "sandboxes", faults);
        let approvals: Option<Approvals> = read::read_section(&mut sections, "approvals", faults);
        let policies: Option<Policies> = read::read_section(&mut sections, "policies", faults);
        let followers: Option<Followers> = read::read_section(&mut sections, "followers", faults);
        let boot_hooks: Option<BootHooks> = read::read_section(&mut sections, "boot_hooks", faults);
        let webhooks: Option<Webhooks> = read::read_section(&mut sections, "webhooks", faults);
        let telemetry: Option<Telemetry> = read::read_section(&mut sections, "telemetry", faults);
        for (name, _) in sections {
            faults.add(name, "is not a section of the configuration");
        }
        if let (Some(keys), Some(database)) = (&keys, &database) {
            keys.check_for(&database.url, faults);
        }
        if let (Some(limits), Some(server)) = (&limits, &server) {
            limits.check_message(server.message_bytes_max, faults);
        }
        if let (Some(telemetry), Some(server)) = (&telemetry, &server) {
            telemetry.check_listen(server.listen, faults);
        }
        Some(Self {
            server: server?,
            database: database?,
            keys: keys?,
            limits: limits?,
            gateways: gateways?,
            discovery: discovery?,
            access: access?,
            auth: auth?,
            oidc: oidc?,
            token_service: token_service?,
            audit: audit?,
            events: events?,
            operations: operations?,
            sandboxes: sandboxes?,
            approvals: approvals?,
            policies: policies?,
            followers: followers?,
            boot_hooks: boot_hooks?,
            webhooks: webhooks?,
            telemetry: telemetry?,
        })
    }

    /// Returns the path of the SQLite file: the configured one, or `shoreguard.db` in the data directory. `None` on
    /// PostgreSQL.
    #[must_use]
    pub fn sqlite_path(&self) -> Option<PathBuf> {
        match &self.database.url {
            DatabaseUrl::DataDir => Some(self.server.data_dir.join(database::FILE_NAME)),
            DatabaseUrl::Sqlite(path) => Some(path.clone()),
            DatabaseUrl::Postgres(_) => None,
        }
    }

    /// Returns the configuration as TOML, with `***` for secrets.
    ///
    /// # Panics
    /// Never: a section holds only values that TOML can represent, which a test verifies.
    #[must_use]
    pub fn redacted(&self) -> String {
        toml::to_string_pretty(self).expect("sections hold only what TOML can say")
    }
}

fn read_file(path: &Path) -> Result<String, Faults> {
    std::fs::read_to_string(path).map_err(|error| {
        Faults::one(path.display().to_string(), format!("cannot be read: {error}"))
    })
}
