//! `shoreguard dev`: a complete setup on loopback without preparation.
//!
//! Uses a SQLite file in a folder, a simulated gateway of each generation with sandboxes and a pending draft, an admin
//! key, the key of an approver, who is another person for reviews, and one key per gateway that is valid for that
//! gateway only. If it is restarted on the same folder, the keys of admin and approver are those of their files
//! (`dev_key`), the keys of gateways are rotated, since only their hashes are stored, and the gateways are updated to
//! their new ports.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::serve::{Signals, bind, watch};
use super::{CliError, data_dir, dev_key, output};
use crate::access::principal::PrincipalId;
use crate::app::App;
use crate::boot;
use crate::clock::Clock;
use crate::config::Config;
use crate::ctx::Ctx;
use crate::db::types::GatewayRef;
use crate::error::{Error, ResourceKind};
use crate::labels::Labels;
use crate::names::Name;
use crate::net::loopback::is_loopback;
use crate::resources::access_bindings::domain as bindings;
use crate::resources::gateways::change::{self, GatewayUpdate};
use crate::resources::gateways::domain::{self as gateways, NewGateway};
use crate::resources::service_principals::domain::{self as principals, ServicePrincipalUpdate};
use crate::resources::users::domain::Email;
use crate::resources::users::invite;
use crate::role::Role;
use crate::secret::Secret;
use crate::server::listen;
use crate::telemetry::{self, metrics};
use crate::upstream::credentials::{AuthMode, Credentials};
use crate::upstream::endpoint::{Endpoint, Scheme};
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};

const JOB: &str = "dev";

/// A service principal whose key is kept in a file.
struct Keyholder {
    name: &'static str,
    role: Role,
    file: &'static str,
    /// The user who counts as its maker. Reviews count the people behind keys, so each key has one of its own. The user
    /// has no role and no password.
    person: &'static str,
}

const ADMIN: Keyholder = Keyholder {
    name: "dev-admin",
    role: Role::Admin,
    file: dev_key::ADMIN_FILE,
    person: "dev-admin@localhost",
};
const APPROVER: Keyholder = Keyholder {
    name: "dev-approver",
    role: Role::Operator,
    file: dev_key::APPROVER_FILE,
    person: "dev-approver@localhost",
};

/// The kept keys.
struct Keys {
    admin: Secret,
    approver: Secret,
}

/// Where and how to run.
#[derive(Debug, clap::Args)]
pub(super) struct DevArgs {
    /// Folder of the database and of the kept keys.
    #[arg(long, value_name = "FOLDER", default_value = "shoreguard-dev")]
    data: PathBuf,
    /// Address to listen on; port 0 picks a free port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Prints one line of JSON for scripts instead of text.
    #[arg(long)]
    json: bool,
}

/// A simulated gateway.
struct DevGateway {
    name: &'static str,
    simulator: Simulator,
    generation: &'static str,
    key: Secret,
}

fn dev_config(args: &DevArgs, listens: SocketAddr) -> Result<Config, CliError> {
    let folder = args.data.display().to_string();
    let text = toml::toml! {
        [server]
        listen = (listens.to_string())
        public_url = (format!("http://{listens}"))
        data_dir = folder
        drain_seconds = 2
        [gateways]
        allowed_networks = ["127.0.0.0/8", "::1/128"]
        probe_interval_seconds = 10
        [limits]
        address_requests_per_second = 1_000_000
        address_burst = 1_000_000
        // Logins on loopback, for trials, need no slow hashes.
        bcrypt_cost = 10
        [telemetry]
        log_format = "text"
        log_level = "warn"
    };
    Ok(Config::from_toml(&text.to_string())?)
}

/// Refuses a folder with a database that `dev` has not made: an admin and an approver would be added to a server, with
/// keys that are printed and kept in files (T12).
fn refuse_folder_of_server(folder: &Path, config: &Config) -> Result<(), CliError> {
    let has_database = config.sqlite_path().is_some_and(|path| path.symlink_metadata().is_ok());
    if !has_database || dev_key::has_keys(folder) {
        return Ok(());
    }
    let why = format!(
        "`{}` has a database, and no key of `dev`: it may be that of a server; use another folder",
        folder.display()
    );
    Err(CliError::Usage(why))
}

/// Serves until SIGTERM or SIGINT.
pub(super) async fn run(args: DevArgs) -> Result<(), CliError> {
    if !is_loopback(args.listen.ip()) {
        return Err(CliError::Usage(
            "`dev` listens on loopback only: its keys are printed".to_owned(),
        ));
    }
    // Bound first: the public URL is part of the configuration, and port 0 is replaced by a real port here.
    let listener = bind("--listen", args.listen).await?;
    let config = dev_config(&args, listener.local_addr()?)?;
    refuse_folder_of_server(&args.data, &config)?;
    telemetry::init_logging(&config.telemetry)?;
    let mut signals = Signals::listen()?;
    data_dir::create(&args.data)?;
    let kept_admin = dev_key::read(&args.data, ADMIN.file)?;
    let kept_approver = dev_key::read(&args.data, APPROVER.file)?;
    let metrics = metrics::install()?;
    let metrics_listener = bind("metrics", SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let metrics_address = metrics_listener.local_addr()?;
    let app = boot::build(config, Clock::system()).await?;
    let keys = Keys {
        admin: keep_key(&app, &args.data, &ADMIN, kept_admin).await?,
        approver: keep_key(&app, &args.data, &APPROVER, kept_approver).await?,
    };
    let mut fleet = Vec::new();
    for (name, generation) in [("dev-0-0", Generation::V0_0), ("dev-0-1", Generation::V0_1)] {
        fleet.push(start_gateway(&app, name, generation).await?);
    }
    boot::start(&app);
    let until = CancellationToken::new();
    let watched = app.spawn(watch(metrics_listener, metrics, Arc::clone(&app), until.clone()));
    let running = listen::serve(&app, listener).await?;
    let listen = running.address();
    let about = if args.json { to_json } else { to_text };
    output::print_started(about(listen, metrics_address, &keys, &fleet)).await?;
    signals.next(&app).await;
    app.stop.cancel();
    running.stopped().await;
    until.cancel();
    let _ = watched.await;
    app.drain().await;
    for gateway in fleet {
        gateway.simulator.stop().await;
    }
    Ok(())
}

/// Returns the kept key if it is still valid and its holder has the role, otherwise a new one, which is kept from then
/// on.
async fn keep_key(
    app: &Arc<App>,
    data: &Path,
    of: &Keyholder,
    kept: Option<Secret>,
) -> Result<Secret, CliError> {
    let principal =
        app.snapshot.service_principal_by_name(of.name).map(PrincipalId::ServicePrincipal);
    let holder = |key: &Secret| {
        app.authn.verify_api_key(key.expose(), &app.snapshot).map(|caller| caller.principal())
    };
    let has_role = principal.is_some_and(|id| app.snapshot.global_role(id) == of.role);
    let key = if let Some(key) = kept.filter(|key| has_role && holder(key) == principal) {
        key
    } else {
        let key = create_key(app, of.name, of.role).await?;
        dev_key::write(data, of.file, &key)?;
        key
    };
    name_person(app, of).await?;
    Ok(key)
}

/// Makes the person of a key known to reviews, also of a key that an earlier version has made.
async fn name_person(app: &Arc<App>, of: &Keyholder) -> Result<(), Error> {
    let ctx = Ctx::system(app, JOB);
    let person = match app.snapshot.user_by_email(of.person) {
        Some(person) => person,
        None => invite::invite(&ctx, &Email::parse("email", of.person)?, Role::None).await?.0.id,
    };
    principals::set_unknown_maker(&ctx, of.name, person).await
}

/// Rotates the key of a service principal, which is created if it does not exist, and which gets its role back if that
/// was changed.
async fn create_key(app: &Arc<App>, name: &str, role: Role) -> Result<Secret, Error> {
    let ctx = Ctx::system(app, JOB);
    match principals::get(&ctx, name).await {
        Ok(found) => {
            if found.role != role {
                let change = ServicePrincipalUpdate { role: Some(role), ..Default::default() };
                principals::update(&ctx, name, change, "").await?;
            }
            Ok(principals::rotate(&ctx, name, Duration::ZERO, "").await?.1)
        }
        Err(Error::NotFound { .. }) => {
            Ok(principals::create(&ctx, &Name::parse("name", name)?, role, None).await?.1)
        }
        Err(error) => Err(error),
    }
}

/// Starts and registers a simulated gateway, and creates a key that is valid for it only.
async fn start_gateway(
    app: &Arc<App>,
    name: &'static str,
    generation: Generation,
) -> Result<DevGateway, CliError> {
    let simulator = Simulator::start(SimulatorOptions::new(generation)).await?;
    simulator.seed_demo()?;
    let endpoint = Endpoint::parse("endpoint", &simulator.addr().to_string())?;
    register_gateway(app, name, endpoint).await?;
    let id = app
        .snapshot
        .gateway_id(name)
        .ok_or_else(|| Error::not_found(ResourceKind::Gateway, name))?;
    let principal = format!("dev-key-{name}");
    let key = create_key(app, &principal, Role::None).await?;
    let ctx = Ctx::system(app, JOB).with_gateway(GatewayRef { id, name: name.into() });
    let subject = bindings::Subject::new(bindings::HolderKind::ServicePrincipal, &principal);
    bindings::set(&ctx, subject, "", Role::Admin, "").await?;
    let generation = match generation {
        Generation::V0_0 => "0.0",
        Generation::V0_1 => "0.1",
    };
    Ok(DevGateway { name, simulator, generation, key })
}

async fn register_gateway(app: &Arc<App>, name: &str, endpoint: Endpoint) -> Result<(), Error> {
    let ctx = Ctx::system(app, JOB);
    if let Some(id) = app.snapshot.gateway_id(name) {
        let moved = GatewayUpdate { endpoint: Some(endpoint), ..GatewayUpdate::default() };
        change::update(&ctx.with_gateway(GatewayRef { id, name: name.into() }), moved, "").await?;
        return Ok(());
    }
    let new = NewGateway {
        name: name.to_owned(),
        endpoint,
        scheme: Scheme::Http,
        auth_mode: AuthMode::None,
        oidc_client: None,
        ca_cert: None,
        credentials: Credentials::default(),
        metadata_json: None,
        description: Some("simulated, in memory".to_owned()),
        labels: Labels::parse("labels", [("env".to_owned(), "dev".to_owned())])?,
    };
    gateways::register(&ctx, new).await?;
    Ok(())
}

fn to_json(listen: SocketAddr, metrics: SocketAddr, keys: &Keys, fleet: &[DevGateway]) -> String {
    let gateways: Vec<_> = fleet
        .iter()
        .map(|gateway| {
            json!({
                "name": gateway.name,
                "endpoint": gateway.simulator.addr().to_string(),
                "generation": gateway.generation,
                "key": gateway.key.expose(),
            })
        })
        .collect();
    json!({
        "listen": listen.to_string(),
        "public_url": format!("http://{listen}"),
        "metrics": metrics.to_string(),
        "admin_key": keys.admin.expose(),
        "approver_key": keys.approver.expose(),
        "gateways": gateways,
    })
    .to_string()
}

fn to_text(listen: SocketAddr, metrics: SocketAddr, keys: &Keys, fleet: &[DevGateway]) -> String {
    let program = std::env::current_exe()
        .map_or_else(|_| "shoreguard".to_owned(), |p| p.display().to_string());
    let mut lines = vec![
        format!(
            "Shoreguard serves on {listen}, metrics on http://{metrics}/metrics. Stop it with Ctrl-C."
        ),
        String::new(),
        "In another shell:".to_owned(),
        format!(
            "  export SHOREGUARD_ENDPOINT=http://{listen} SHOREGUARD_KEY={}",
            keys.admin.expose()
        ),
        format!("  {program} call ListGateways"),
    ];
    for gateway in fleet {
        lines.push(format!("  {program} call --gateway {} OpenShell/ListSandboxes", gateway.name));
    }
    lines.push(format!(
        "  {program} call --gateway {} OpenShell/GetDraftPolicy '{{\"sandbox\": \"coder\"}}'",
        fleet.last().map_or("dev-0-1", |gateway| gateway.name),
    ));
    lines.push(format!("  {program} call ListAuditEntries"));
    lines.push(String::new());
    lines.push(
        "The key of another person, the service principal `dev-approver`, who can approve what the admin proposes:"
            .to_owned(),
    );
    lines.push(format!("  SHOREGUARD_KEY={} {program} approval review", keys.approver.expose()));
    lines.push(String::new());
    lines.push(
        "A key of one gateway selects it, so that a stock client needs address and key alone:"
            .to_owned(),
    );
    for gateway in fleet {
        lines.push(format!(
            "  SHOREGUARD_KEY={} {program} call --generation {} OpenShell/ListSandboxes",
            gateway.key.expose(),
            gateway.generation,
        ));
    }
    lines.push(String::new());
    lines.push("The stock command line takes one command a gateway and no more:".to_owned());
    for gateway in fleet {
        let (name, key) = (gateway.name, gateway.key.expose());
        lines.push(format!(
            "  OPENSHELL_OIDC_CLIENT_SECRET={key} openshell gateway add http://{listen} --name {name} \
             --oidc-issuer http://{listen}/gateways/{name}"
        ));
    }
    lines.push(String::new());
    lines.join("\n")
}
