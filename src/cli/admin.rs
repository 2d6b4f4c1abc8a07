//! `shoreguard admin`: initial setup and recovery, offline, directly on the database.
//!
//! The person who runs it has the database and the master key, so no role is checked. Every action is still in the
//! audit log. On SQLite the server must be stopped; on PostgreSQL it may run, and sees the change within a second.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{CliError, ConfigArgs, data_dir, login, output};
use crate::access::action::Action;
use crate::access::policy::AuditSubject;
use crate::app::App;
use crate::audit::{Ending, Intent, Outcome};
use crate::boot;
use crate::clock::Clock;
use crate::ctx::Ctx;
use crate::error::{Error, Reason};
use crate::governance::parse_reason;
use crate::names::Name;
use crate::resources::service_principals::domain as principals;
use crate::resources::unlock::domain::{self as unlock, UnlockScope};
use crate::resources::users::domain::{self as users, Email};
use crate::role::Role;
use crate::seal::fill_random;
use crate::secret::Secret;
use crate::telemetry;

const JOB: &str = "admin";
/// The actor of removals of rules: the person who runs commands on the host.
const HOST: &str = "host";

/// What to change in the database.
#[derive(Debug, clap::Subcommand)]
pub(super) enum AdminCommand {
    /// Creates a user.
    CreateUser {
        /// E-mail address.
        email: String,
        /// Global role: none, viewer, operator or admin.
        #[arg(long, default_value = "admin")]
        role: Role,
        /// Reads the password from standard input. Without this flag, a password is generated and printed.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Sets a user's password and revokes the user's sessions.
    ResetPassword {
        /// E-mail address.
        email: String,
        /// Reads the password from standard input. Without this flag, a password is generated and printed.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Creates a service principal and prints its key.
    CreateServicePrincipal {
        /// Unique name.
        name: String,
        /// Global role: none, viewer, operator or admin.
        #[arg(long, default_value = "viewer")]
        role: Role,
    },
    /// Removes the pin and the approval workflow of exactly one scope: a gateway, a workspace or a sandbox.
    Unlock(UnlockArgs),
}

/// The scope to unlock, and why.
#[derive(Debug, clap::Args)]
pub(super) struct UnlockArgs {
    /// Name of the gateway.
    #[arg(long)]
    gateway: String,
    /// Workspace. Without it and without a sandbox, the scope is the gateway.
    #[arg(long)]
    workspace: Option<String>,
    /// Name of the sandbox. Its workspace is `default` unless it is given.
    #[arg(long)]
    sandbox: Option<String>,
    /// Why. The audit log records it.
    #[arg(long)]
    reason: String,
}

/// Arguments of `admin`, and the configuration.
#[derive(Debug, clap::Args)]
pub(super) struct AdminArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: AdminCommand,
}

/// Runs the subcommand and prints its result.
pub(super) async fn run(args: AdminArgs) -> Result<(), CliError> {
    let config = args.config.load()?;
    telemetry::init_logging(&config.telemetry)?;
    data_dir::create(&config.server.data_dir)?;
    let app = boot::build(config, Clock::system()).await?;
    let ctx = Ctx::system(&app, JOB);
    let done = match args.command {
        AdminCommand::CreateUser { email, role, password_stdin } => {
            create_user(&ctx, &email, role, password_stdin).await
        }
        AdminCommand::ResetPassword { email, password_stdin } => {
            reset_password(&ctx, &email, password_stdin).await
        }
        AdminCommand::CreateServicePrincipal { name, role } => {
            create_service_principal(&ctx, &name, role).await
        }
        AdminCommand::Unlock(args) => unlock(&app, args).await,
    };
    app.stop.cancel();
    app.drain().await;
    output::print_result(&done?)?;
    Ok(())
}

async fn create_user(ctx: &Ctx, email: &str, role: Role, stdin: bool) -> Result<String, CliError> {
    let email = Email::parse_new("email", email)?;
    let (password, made) = read_or_generate_password(stdin)?;
    let work = users::create(ctx, &email, password, role);
    let about = AuditSubject::new(Action::USER_CREATE, email.as_str());
    with_audit_entry(ctx, about, None, work).await?;
    Ok(format!("user {} exists with role {role}{made}", email.as_str()))
}

async fn reset_password(ctx: &Ctx, email: &str, stdin: bool) -> Result<String, CliError> {
    let email = Email::parse("email", email)?;
    let (password, made) = read_or_generate_password(stdin)?;
    let work = users::set_password_by_operator(ctx, &email, password);
    let about = AuditSubject::new(Action::USER_RESET_PASSWORD, email.as_str());
    with_audit_entry(ctx, about, None, work).await?;
    Ok(format!("the password of {} is set{made}", email.as_str()))
}

async fn create_service_principal(ctx: &Ctx, name: &str, role: Role) -> Result<String, CliError> {
    let valid = Name::parse("name", name)?;
    let work = principals::create(ctx, &valid, role, None);
    let about = AuditSubject::new(Action::SERVICE_PRINCIPAL_CREATE, name);
    let (_, key) = with_audit_entry(ctx, about, None, work).await?;
    Ok(key.expose().to_owned())
}

async fn unlock(app: &Arc<App>, args: UnlockArgs) -> Result<String, CliError> {
    let ctx = Ctx::system(app, HOST);
    let missing = || Error::invalid("reason", "is required");
    let reason = parse_reason("reason", &args.reason)?.ok_or_else(missing)?;
    let scope = UnlockScope::new(&ctx, &args.gateway, args.workspace, args.sandbox)?;
    let ctx = ctx.with_gateway(scope.gateway().clone());
    let rules = unlock::rules_of(&ctx, &scope).await?;
    if rules.is_empty() {
        let why = format!("{scope} has neither a pin nor an approval workflow of its own");
        return Err(Error::refused(Reason::NotFound, why).into());
    }
    let mut work: BoxFuture<'_, Result<(), Error>> =
        Box::pin(unlock::remove(&ctx, &scope, &rules, &reason));
    // Each removal has an entry, which is opened before the transaction of all of them.
    for rule in &rules {
        let about = AuditSubject::new(rule.removal(), scope.target());
        let detail = json!({ "scope": scope.to_string(), "reason": reason });
        work = Box::pin(with_audit_entry(&ctx, about, Some(detail), work));
    }
    work.await?;
    let removed: Vec<&str> = rules.iter().map(|rule| rule.as_str()).collect();
    Ok(format!("{} of {scope} was removed", removed.join(" and ")))
}

/// Returns the password from standard input, or a generated one with the text that displays it.
fn read_or_generate_password(stdin: bool) -> Result<(Secret, String), CliError> {
    if stdin {
        return Ok((login::read_secret("password")?, String::new()));
    }
    let mut bytes = [0; 18];
    fill_random(&mut bytes)?;
    let made = URL_SAFE_NO_PAD.encode(bytes);
    let shown = format!(", password: {made}");
    Ok((Secret::new(made), shown))
}

/// Runs an action with an audit entry that is opened before and closed after, like a call.
async fn with_audit_entry<T>(
    ctx: &Ctx,
    about: AuditSubject,
    detail: Option<Value>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let app: &Arc<App> = ctx.app();
    let at = ctx.now();
    let intent = Intent { method: "shoreguard admin".into(), detail, ..ctx.new_intent(about) };
    let entry = app.audit.open(intent).await?;
    let done = work.await;
    let now = ctx.now();
    let ending = if done.is_ok() { Ending::Ok } else { Ending::Failed };
    let code =
        done.as_ref().err().map_or(0, |error| crate::status::code_and_reason(error).0 as i32);
    let outcome = Outcome { took: now.since(at), ..Outcome::new(now, ending, code) };
    app.audit.close(entry, outcome).await?;
    done
}
