//! Builds the process and starts its background jobs: the only file that depends on every module.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::access::authn::token::TokenKeys;
use crate::access::authn::{Authn, CertificateIdentity};
use crate::access::principal::PrincipalId;
use crate::app::{App, Parts, Setup, new_id};
use crate::clock::Clock;
use crate::config::{ClientIdentity, Config, DatabaseUrl, Faults};
use crate::db::{Db, DbOptions, Engine, leases, replicas};
use crate::error::{Error, Reason};
use crate::feed::{self, FeedState};
use crate::net::dn::DistinguishedName;
use crate::oidc::Oidc;
use crate::policy::{InitialPolicy, Presets};
use crate::proxy::{RequestIds, SandboxIds};
use crate::resources::approval_workflows::worker::CheckedWorkflows;
use crate::resources::approvals::Approvals;
use crate::resources::approvals::apply::DispatchState;
use crate::resources::approvals::drafts::hints::DraftHints;
use crate::resources::auth::oidc::LoginKey;
use crate::resources::boot_hooks::run::HookSlots;
use crate::resources::bypass_events::worker::ExcessSearch;
use crate::resources::operations::leases::LocalOperations;
use crate::resources::operations::{OperationKind, takeover};
use crate::resources::policy_pins::complete::PinsRead;
use crate::resources::sboms::intake::SbomLimits;
use crate::resources::sboms::recompute::RulesCheck;
use crate::resources::sessions::budget::BudgetKey;
use crate::resources::webhooks::delivery::{DELIVERY, DeliveryState};
use crate::resources::webhooks::outbound::Outbound;
use crate::resources::{
    access_bindings, approval_workflows, approvals, audit, auth, bypass_events, device_codes,
    events, followers, gateways, operations, policy_pins, sandboxes, sboms, service_principals,
    webhooks, write_intents,
};
use crate::rpc::idempotency;
use crate::seal::MasterKeys;
use crate::secret::Secret;
use crate::server::reload::{self, ListenerState};
use crate::templates::{self, Templates};
use crate::workers::keyed::{self, Keyed};
use crate::workers::{self, LeaseBatches, TickTurns, Worker, disk};

/// All background jobs.
pub const WORKERS: &[Worker] = &[
    access_bindings::worker::RETENTION,
    approval_workflows::worker::BROKEN,
    approvals::apply::DISPATCH,
    approvals::worker::CLOCK,
    approvals::worker::RETENTION,
    audit::worker::ORPHANS,
    audit::worker::RETENTION,
    auth::worker::RETENTION,
    bypass_events::worker::RETENTION,
    device_codes::worker::EXPIRY,
    events::worker::SEQUENCER,
    events::worker::RETENTION,
    gateways::budgets::EXCESSES,
    gateways::findings::CHECKS,
    gateways::worker::PROBES,
    gateways::discovery::worker::DISCOVERY,
    TAKEOVER,
    operations::worker::RETENTION,
    policy_pins::worker::CLOCK,
    sandboxes::worker::SWEEP,
    sandboxes::worker::SSH_RETENTION,
    sboms::worker::RECOMPUTE,
    service_principals::worker::LAST_USED,
    webhooks::worker::FANOUT,
    webhooks::worker::BACKLOG,
    webhooks::worker::RETENTION,
    write_intents::worker::EXPIRY,
    idempotency::WORKER,
    disk::WORKER,
    reload::TLS_RELOAD,
];

/// All work that has one task per key.
pub const KEYED: &[Keyed] = &[DELIVERY, followers::FOLLOWERS];

/// Resumes operations whose replica has crashed.
pub const TAKEOVER: Worker =
    takeover::worker(|ctx, _| Box::pin(takeover::take_over(ctx, resume_fn)));

/// Returns how an operation is resumed after its replica has crashed; `None` if it cannot be resumed.
#[must_use]
pub fn resume_fn(kind: OperationKind) -> Option<takeover::Resume> {
    match kind {
        OperationKind::Sandbox => Some(sandboxes::create::resume),
        OperationKind::Exec => None,
        OperationKind::Policy => Some(approvals::apply::resume),
    }
}

/// Builds the state of each module that has some.
fn build_parts(config: &Config, master: &MasterKeys) -> Result<Parts, Error> {
    let templates = templates::file::load(config.sandboxes.templates_folder.as_deref())?;
    let presets = Presets::load(config.policies.presets_dir.as_deref())?;
    let initial = InitialPolicy::load(config.policies.initial.as_deref())?;
    Ok(Parts::default()
        .with(Approvals::default())
        .with(BudgetKey(master.tag_key("login budgets")))
        .with(CheckedWorkflows::default())
        .with(DeliveryState::default())
        .with(DispatchState::default())
        .with(DraftHints::default())
        .with(ExcessSearch::default())
        .with(FeedState::default())
        .with(HookSlots(Semaphore::new(config.boot_hooks.running_max as usize)))
        .with(SbomLimits::default())
        .with(RulesCheck::default())
        .with(ListenerState::default())
        .with(Outbound::from_config(config)?)
        .with(LeaseBatches::default())
        .with(TickTurns::default())
        .with(LoginKey(master.seal_key("oidc login")))
        .with(LocalOperations::default())
        .with(PinsRead::default())
        .with(presets)
        .with(initial)
        .with(RequestIds::default())
        .with(SandboxIds::default())
        .with(Templates(templates)))
}

/// Opens the database, updates its schema, and loads keys and access data. Must run on the main runtime.
///
/// # Errors
/// Those that prevent the process from serving.
pub async fn build(config: Config, clock: Clock) -> Result<Arc<App>, Error> {
    // Before the schema is changed, so that a key file that cannot be read prevents the start.
    let stored = stored_master_keys(&config)?;
    let db = Db::open(&db_options(&config)).await?;
    let master = match stored {
        Some(keys) => keys,
        None => create_master_key(&config, &db).await?,
    };
    let parts = build_parts(&config, &master)?;
    forget_dead_processes(&db).await?;
    let tokens = auth::keys::token_keys(&db, &master, &clock, new_id).await?;
    let identities = config.server.tls.client_identities.iter();
    let certificates = identities.map(to_certificate_identity).collect::<Result<_, _>>()?;
    let oidc = Arc::new(Oidc::new(&config.oidc, &clock)?);
    let authn = Authn { tokens: TokenKeys::new(tokens, clock.clone()), certificates, oidc };
    let app = App::new(Setup { config, db, clock, master, authn, parts }).await?;
    feed::gateways::load_targets(&app).await?;
    feed::load(&app).await?;
    Ok(app)
}

/// Frees what a killed process held, on SQLite: the lock of the file proves that no other process is alive. On
/// PostgreSQL, other replicas may be, so leases and heartbeats of a killed one expire by themselves.
async fn forget_dead_processes(db: &Db) -> Result<(), Error> {
    if db.engine() != Engine::Sqlite {
        return Ok(());
    }
    db.transaction(async |conn| {
        let now = db.now(conn).await?;
        leases::expire_all(conn, now).await?;
        replicas::delete_all(conn).await?;
        operations::leases::store::expire_all(conn, now).await?;
        Ok(())
    })
    .await
}

/// Starts all background jobs, which end when the process stops.
pub fn start(app: &Arc<App>) {
    app.spawn(feed::follow(Arc::clone(app)));
    for worker in WORKERS {
        workers::spawn(app, *worker);
    }
    for kind in KEYED {
        keyed::spawn(app, *kind);
    }
    events::follow::start_polling(app);
}

/// Returns the database options of the configuration.
#[must_use]
pub fn db_options(config: &Config) -> DbOptions {
    let database = &config.database;
    let url = match (&database.url, config.sqlite_path()) {
        (DatabaseUrl::Postgres(url), _) => Secret::new(url.expose()),
        (_, Some(path)) => Secret::new(path.display().to_string()),
        (DatabaseUrl::DataDir | DatabaseUrl::Sqlite(_), None) => Secret::new(""),
    };
    DbOptions {
        readers: database.readers as usize,
        writers: database.pool_size as usize,
        pool_wait: database.acquire_timeout(),
        statement_timeout: database.statement_timeout(),
        idle_in_transaction_timeout: database.idle_in_transaction_timeout(),
        busy_timeout: database.busy_timeout(),
        tls_roots: database.tls_ca_path.clone(),
        ..DbOptions::new(url)
    }
}

/// Loads the master keys from the configuration or, for a SQLite database without configured keys, from the key file
/// next to it. Returns `None` if that file does not exist.
fn stored_master_keys(config: &Config) -> Result<Option<MasterKeys>, Error> {
    match configured_keys(config)? {
        Some(keys) => Ok(Some(keys)),
        None => MasterKeys::load(&key_file(config)?),
    }
}

/// Loads the master keys and never creates one: for a database that was sealed before.
///
/// # Errors
/// `Unavailable` if no key is configured and the key file does not exist.
pub fn existing_master_keys(config: &Config) -> Result<MasterKeys, Error> {
    match stored_master_keys(config)? {
        Some(keys) => Ok(keys),
        None => Err(missing_key_file_error(&key_file(config)?)),
    }
}

/// Creates the key file of a new SQLite database, with mode 0600. A database that was sealed before needs its own key:
/// a new file in the place of a lost one would be mistaken for that key.
async fn create_master_key(config: &Config, db: &Db) -> Result<MasterKeys, Error> {
    let path = key_file(config)?;
    if auth::keys::exist(db).await? {
        return Err(missing_key_file_error(&path));
    }
    MasterKeys::load_or_create(&path)
}

fn missing_key_file_error(path: &Path) -> Error {
    let why = format!(
        "the master key file `{}` does not exist: put the key there, or set `keys.master_key_path`",
        path.display()
    );
    Error::unavailable(Reason::StorageUnavailable, why)
}

fn configured_keys(config: &Config) -> Result<Option<MasterKeys>, Error> {
    config.keys.load().map_err(|faults: Faults| Error::invalid("keys", faults.to_string()))
}

/// Returns the path of the key file beside the database file.
fn key_file(config: &Config) -> Result<PathBuf, Error> {
    let path = config.sqlite_path().ok_or_else(|| {
        Error::invalid("keys.master_key", "is required where the database is not a file")
    })?;
    Ok(path.with_extension("key"))
}

fn to_certificate_identity(configured: &ClientIdentity) -> Result<CertificateIdentity, Error> {
    let bad = |why: &str| Error::invalid("server.tls.client_identities", why);
    let principal = PrincipalId::parse_exact(&configured.principal);
    Ok(CertificateIdentity {
        issuer: DistinguishedName::parse(&configured.issuer).map_err(bad)?,
        san: configured.san.clone(),
        principal: principal.ok_or_else(|| bad("has a principal without an id"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resumable_operation_kind_has_a_resume_function() {
        for kind in OperationKind::ALL {
            assert_eq!(kind.is_resumable(), resume_fn(*kind).is_some(), "{kind}");
        }
    }
}
