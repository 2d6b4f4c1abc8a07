//! One PostgreSQL server for the whole test process, and a separate database for each test.
//!
//! Invariants
//! - The server exits with the process, even if that crashes: a shell waits for the end of a pipe that only this
//!   process holds open.
//! - It never runs as root, listens only on a socket in its own folder, and its folder is removed afterwards.
//! - The migrations run once, in a template that is copied for each test, and so does the setup of the first admin.
//! - All tests create and drop their databases on a few connections of one thread: opening and closing a connection
//!   takes as much processor time as dropping a database. No test waits until its database is dropped, and most find
//!   a copy that is already made.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shoreguard::db::{Db, DbOptions};
use tokio::sync::{OnceCell, mpsc, oneshot};
use tokio_postgres::{Client, Config, NoTls};

const USER: &str = "shoreguard";
/// A database with the schema.
const MIGRATED: &str = "shoreguard_migrated";
/// A database with the schema and the first admin.
const WITH_ADMIN: &str = "shoreguard_with_admin";
/// Removes the dead rows that the migrations left in the catalogs: they would be copied for each test. Tables stay as
/// they are: the planner estimates the size of a vacuumed table by other rules than that of a new table.
const COMPACT: &str = "VACUUM (FULL, FREEZE) pg_attribute, pg_attrdef, pg_class, pg_constraint, pg_depend, pg_index, \
    pg_statistic, pg_type";
/// First version that can copy a database file by file. That is twice as fast as to log each page.
const FILE_COPY_VERSION: u32 = 150_000;
const START_SECONDS_MAX: u64 = 60;
/// Number of connections that create and drop databases. Each statement waits for a checkpoint of the server.
const ADMIN_CONNECTIONS: usize = 4;
/// Number of copies of [`WITH_ADMIN`] that are made for the next tests.
const SPARES: usize = 4;

static SERVER: OnceCell<Option<Server>> = OnceCell::const_new();
/// Key of the admin in [`WITH_ADMIN`].
static ADMIN_KEY: OnceCell<String> = OnceCell::const_new();

type AdminResult = Result<(), tokio_postgres::Error>;
/// A statement for the database `postgres`, with the receiver of its result if a test waits for it.
type AdminStatement = (String, Option<oneshot::Sender<AdminResult>>);
/// Name of a database, and the result of its creation.
type RequestedDatabase = (String, oneshot::Receiver<AdminResult>);

struct Server {
    folder: PathBuf,
    /// Executes statements on the database `postgres`.
    admin: mpsc::UnboundedSender<AdminStatement>,
    spares: Mutex<VecDeque<RequestedDatabase>>,
    /// Option of `CREATE DATABASE` that selects the fastest way to copy.
    strategy: &'static str,
    /// Its input is closed when this process exits, which stops the server.
    _shell: Child,
}

/// A database of one test.
#[derive(Clone)]
pub(crate) struct Database {
    server: &'static Server,
    name: String,
}

impl Database {
    /// Creates a copy of the migrated template. Returns `None` if this host has no server programs.
    pub(crate) async fn create_migrated() -> Option<Self> {
        Self::create(MIGRATED).await
    }

    /// Creates a copy of the template with the first admin, and returns the admin's key. Returns `None` if this host
    /// has no server programs.
    pub(crate) async fn create_with_admin(
        add_admin: impl AsyncFnOnce(Self) -> String,
    ) -> Option<(Self, String)> {
        let server = Self::server().await?;
        let key = ADMIN_KEY.get_or_init(|| server.make_admin_template(add_admin)).await.clone();
        Some((Self::create(WITH_ADMIN).await?, key))
    }

    /// Creates an empty database. Returns `None` if this host has no server programs.
    pub(crate) async fn create_empty() -> Option<Self> {
        Self::create("template0").await
    }

    /// Creates an empty database with this encoding. Returns `None` if this host has no server programs.
    pub(crate) async fn create_with_encoding(encoding: &str) -> Option<Self> {
        Self::create(&format!("template0 ENCODING '{encoding}'")).await
    }

    async fn create(template: &str) -> Option<Self> {
        let server = Self::server().await?;
        let (name, created) = match template {
            WITH_ADMIN => server.take_spare(),
            _ => server.request_database(template),
        };
        created.await.expect("the connection is open").unwrap();
        Some(Self { server, name })
    }

    /// Returns the server, which the first call starts.
    async fn server() -> Option<&'static Server> {
        SERVER.get_or_init(Server::start).await.as_ref()
    }

    /// Returns its URL.
    pub(crate) fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// Returns only its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the socket that the server listens on.
    pub(crate) fn socket(&self) -> PathBuf {
        self.server.folder.join(".s.PGSQL.5432")
    }

    /// Runs statements directly, without Shoreguard's code.
    pub(crate) async fn execute_batch(&self, sql: &str) {
        self.server.execute(&self.name, sql).await;
    }

    /// Changes a default of its sessions. `None` removes the default.
    pub(crate) async fn set_default(&self, setting: &str, value: Option<&str>) {
        let change = match value {
            Some(value) => format!("SET {setting} = '{value}'"),
            None => format!("RESET {setting}"),
        };
        self.server.execute_admin(&format!("ALTER DATABASE {} {change}", self.name)).await;
    }

    /// Runs a query directly, without Shoreguard's code. Returns each column as text.
    pub(crate) async fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.server.query(&self.name, sql).await
    }

    /// Drops it soon, since hundreds of copies would fill the disk.
    pub(crate) fn drop_database(self) {
        self.server.send_admin(format!("DROP DATABASE {} WITH (FORCE)", self.name), None);
    }
}

impl Server {
    async fn start() -> Option<Self> {
        let Some(programs) = find_programs() else {
            let loud = "\n*** no PostgreSQL server programs: THE POSTGRESQL HALF OF THE TESTS IS SKIPPED ***\n\n";
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{loud}");
            // `eprintln` would be captured and shown only for failed tests.
            io::stderr().write_all(loud.as_bytes()).unwrap();
            return None;
        };
        let mut server = tokio::task::block_in_place(|| Self::spawn(&programs));
        server.wait_ready().await;
        server.admin = start_admin(server.config("postgres"));
        let version = server.query("postgres", "SHOW server_version_num").await;
        let version: u32 = version[0][0].as_ref().unwrap().parse().unwrap();
        if version >= FILE_COPY_VERSION {
            server.strategy = "STRATEGY file_copy";
        }
        server.create_database(MIGRATED, "template0").await;
        drop(Db::open(&DbOptions::new(server.url(MIGRATED))).await.unwrap());
        server.execute(MIGRATED, COMPACT).await;
        server.make_template(MIGRATED).await;
        Some(server)
    }

    async fn create_database(&self, name: &str, template: &str) {
        self.execute_admin(&self.creation(name, template)).await;
    }

    /// Returns the statement that copies a database.
    fn creation(&self, name: &str, template: &str) -> String {
        format!("CREATE DATABASE {name} TEMPLATE {template} {}", self.strategy)
    }

    /// Begins to copy a database.
    fn request_database(&self, template: &str) -> RequestedDatabase {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let (done, created) = oneshot::channel();
        self.send_admin(self.creation(&name, template), Some(done));
        (name, created)
    }

    /// Returns the oldest copy of [`WITH_ADMIN`] that was requested ahead, and requests the next one.
    fn take_spare(&self) -> RequestedDatabase {
        let mut spares = self.spares.lock().unwrap();
        while spares.len() < SPARES {
            spares.push_back(self.request_database(WITH_ADMIN));
        }
        spares.push_back(self.request_database(WITH_ADMIN));
        spares.pop_front().unwrap()
    }

    /// Closes all connections to a database and refuses new ones. A database with an open connection cannot be copied,
    /// and closing a client does not wait until the server has closed the connection.
    async fn make_template(&self, name: &str) {
        self.execute_admin(&format!(
            "ALTER DATABASE {name} ALLOW_CONNECTIONS false; \
             SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'"
        ))
        .await;
    }

    /// Creates the template with the first admin. Returns the admin's key.
    async fn make_admin_template(
        &'static self,
        add_admin: impl AsyncFnOnce(Database) -> String,
    ) -> String {
        self.create_database(WITH_ADMIN, MIGRATED).await;
        let key = add_admin(Database { server: self, name: WITH_ADMIN.to_owned() }).await;
        self.make_template(WITH_ADMIN).await;
        key
    }

    fn spawn(programs: &Path) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("sg-pg-")
            .tempdir_in(super::database_folder())
            .unwrap()
            .keep();
        let run_as = unprivileged_owner(&folder);
        let command = |program: &Path| {
            let mut command = Command::new(program);
            command.current_dir(&folder).env_clear().env("PATH", "/usr/bin:/bin");
            if let Some((user, group)) = run_as {
                command.uid(user).gid(group);
            }
            command
        };
        let made = command(&programs.join("initdb"))
            .args(["--pgdata=data", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"])
            .arg(format!("--username={USER}"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));

        let log = File::create(folder.join("log")).unwrap();
        // Ctrl-C also reaches the shell, which must outlive this process to stop the server and remove the folder.
        let script = r#"trap '' INT TERM HUP
"$1" -D data -k "$2" -c listen_addresses= -c shared_buffers=64MB -c max_connections=1000 $3 </dev/null &
read -r _
kill -QUIT $!
wait $!
rm -rf "$2""#;
        let shell = command(Path::new("/bin/sh"))
            .args(["-c", script, "sh"])
            .arg(programs.join("postgres"))
            .arg(&folder)
            .arg(super::POSTGRES_SETTINGS)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        // Replaced when the server is ready.
        let (admin, _) = mpsc::unbounded_channel();
        Self { folder, admin, spares: Mutex::default(), strategy: "", _shell: shell }
    }

    async fn wait_ready(&self) {
        let begun = Instant::now();
        while let Err(error) = self.config("postgres").connect(NoTls).await {
            if begun.elapsed() > Duration::from_secs(START_SECONDS_MAX) {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                panic!("PostgreSQL does not start: {error}\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn url(&self, database: &str) -> String {
        let folder = self.folder.to_str().unwrap().replace('/', "%2F");
        format!("postgres://{USER}@{folder}/{database}")
    }

    fn config(&self, database: &str) -> Config {
        self.url(database).parse().unwrap()
    }

    async fn execute_admin(&self, sql: &str) {
        // Each statement separately, since a database cannot be created in the transaction of several statements.
        for statement in sql.split("; ") {
            let (done, result) = oneshot::channel();
            self.send_admin(statement.to_owned(), Some(done));
            result.await.expect("the connection is open").unwrap();
        }
    }

    fn send_admin(&self, statement: String, done: Option<oneshot::Sender<AdminResult>>) {
        self.admin.send((statement, done)).expect("the thread runs");
    }

    async fn execute(&self, database: &str, sql: &str) {
        self.with_client(database, async |client| client.batch_execute(sql).await.unwrap()).await;
    }

    async fn query(&self, database: &str, sql: &str) -> Vec<Vec<Option<String>>> {
        let messages = self
            .with_client(database, async |client| client.simple_query(sql).await.unwrap())
            .await;
        let mut rows = Vec::new();
        for message in messages {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
            }
        }
        rows
    }

    async fn with_client<T>(&self, database: &str, work: impl AsyncFnOnce(&Client) -> T) -> T {
        let (client, connection) = self.config(database).connect(NoTls).await.unwrap();
        tokio::select! {
            value = work(&client) => value,
            ended = connection => panic!("the connection ended: {ended:?}"),
        }
    }
}

/// Starts a thread that executes statements until the process ends. The runtime of a test ends with the test, so it
/// cannot keep a connection for other tests.
fn start_admin(config: Config) -> mpsc::UnboundedSender<AdminStatement> {
    let (sender, statements) = mpsc::unbounded_channel();
    let statements = tokio::sync::Mutex::new(statements);
    drop(std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let all = (0..ADMIN_CONNECTIONS).map(|_| execute_statements(&config, &statements));
        runtime.block_on(join_all(all));
    }));
    sender
}

/// Executes statements on one connection, which is replaced if it ends.
async fn execute_statements(
    config: &Config,
    statements: &tokio::sync::Mutex<mpsc::UnboundedReceiver<AdminStatement>>,
) {
    loop {
        let (client, connection) = config.connect(NoTls).await.unwrap();
        let executing = async {
            loop {
                let next = statements.lock().await.recv().await;
                let Some((sql, done)) = next else { return };
                let result = client.batch_execute(&sql).await;
                match done {
                    // Fails if the test has ended meanwhile, which is harmless.
                    Some(done) => drop(done.send(result)),
                    None => report(result),
                }
            }
        };
        tokio::select! {
            () = executing => return,
            _ = connection => {}
        }
    }
}

/// Reports a statement that has failed while no test waits for it. Only disk space is lost.
fn report(result: AdminResult) {
    if let Err(error) = result {
        // `eprintln` would be captured and shown only for failed tests.
        let _ = writeln!(io::stderr(), "\na database was not dropped: {error}\n");
    }
}

/// Returns the folder with `initdb` and `postgres`.
fn find_programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    versions.sort();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/local/bin")])
        .chain(versions.into_iter().rev())
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

/// Returns the user and group for the server, and makes them the owners of the folder. Returns `None` if the tests do
/// not run as root: PostgreSQL refuses to run as root.
fn unprivileged_owner(folder: &Path) -> Option<(u32, u32)> {
    if fs::metadata(folder).unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let nobody = users.lines().find(|line| line.starts_with("nobody:")).unwrap();
    let mut fields = nobody.split(':').skip(2).map(|field| field.parse().unwrap());
    let (user, group) = (fields.next().unwrap(), fields.next().unwrap());
    chown(folder, Some(user), Some(group)).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    Some((user, group))
}
