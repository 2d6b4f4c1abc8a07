//! A database of either engine, with the folder and the configuration of a server that uses it.

use std::path::PathBuf;

use shoreguard::db::{Db, DbOptions, Engine};
use tempfile::TempDir;

use crate::postgres::Database;
use crate::{Bench, BoxError, child};

/// The master key, in hex.
const MASTER_KEY_HEX: &str = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";

/// A database and the folder of its server. Both are removed when this is dropped.
pub(crate) struct ServerSetup {
    pub(crate) engine: Engine,
    folder: TempDir,
    /// The PostgreSQL database. `None` if the engine is SQLite, whose file is in the folder.
    pub(crate) database: Option<Database>,
}

/// Both engines, in the order in which they are measured.
pub(crate) const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];

/// Returns the name of an engine in the output.
pub(crate) fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "SQLite",
        Engine::Postgres => "PostgreSQL",
    }
}

impl ServerSetup {
    /// Creates a fresh database. Returns `None` if this host has no PostgreSQL.
    pub(crate) fn new(bench: &Bench, engine: Engine) -> Result<Option<Self>, BoxError> {
        let folder = tempfile::Builder::new().prefix("sg-reach-").tempdir()?;
        let database = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => match bench.runtime.block_on(Database::create_migrated()) {
                Some(database) => Some(database),
                None => return Ok(None),
            },
        };
        Ok(Some(Self { engine, folder, database }))
    }

    /// Returns the URL of the database.
    pub(crate) fn url(&self) -> String {
        match &self.database {
            Some(database) => database.url(),
            None => format!("sqlite://{}", self.folder.path().join("reach.db").display()),
        }
    }

    /// Returns the path of the server's log.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Writes a configuration: the defaults, except for ports that the system chooses, gateways and receivers on
    /// loopback, and limits high enough that one host does not reach them.
    pub(crate) fn write_config(&self) -> Result<PathBuf, BoxError> {
        let path = self.folder.path().join("shoreguard.toml");
        let text = format!(
            r#"
            [server]
            listen = "127.0.0.1:0"
            data_dir = "{}"
            drain_seconds = 2
            [database]
            url = "{}"
            [keys]
            master_key = "{MASTER_KEY_HEX}"
            [gateways]
            allowed_networks = ["127.0.0.0/8"]
            probe_interval_seconds = 600
            unary_calls_per_caller = 0
            streams_per_caller = 16000
            uploads_per_caller = 16000
            streams_per_gateway = 16000
            stream_connections_per_gateway = 16000
            [webhooks]
            allowed_networks = ["127.0.0.0/8"]
            [limits]
            address_requests_per_second = 1000000
            address_burst = 1000000
            credentials_per_minute = 0
            calls_max = 1000000
            calls_per_address = 1000000
            calls_per_principal = 1000000
            streams_per_caller = 1000000
            connections_max = 100000
            address_connections_max = 100000
            [telemetry]
            metrics_listen = "127.0.0.1:0"
            "#,
            self.folder.path().display(),
            self.url(),
        );
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Creates an admin key while the server is stopped.
    pub(crate) fn create_admin_key(&self) -> Result<String, BoxError> {
        let config = self.write_config()?;
        let config = config.to_str().ok_or("the path of the configuration is not valid UTF-8")?;
        let role = ["--role", "admin"];
        let args = ["admin", "--config", config, "create-service-principal", "root"];
        child::run_shoreguard(&[&args[..], &role[..]].concat(), &self.log_path())
    }

    /// Opens the database directly. No server may be using it.
    pub(crate) async fn open_db(&self) -> Result<Db, BoxError> {
        Ok(Db::open(&DbOptions::new(self.url())).await?)
    }
}
