//! Checks of a PostgreSQL server at the start: connection poolers, the encoding, and settings of the database.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use shoreguard::db::{Conn, Db, DbOptions};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::support::limit;
use crate::support::postgres::Database;

/// How a pooler assigns server connections to clients.
#[derive(Clone, Copy, Debug)]
enum Pooling {
    /// One for each client connection.
    Session,
    /// One for each transaction, the last used first.
    LastFirst,
    /// One for each transaction, in turn.
    InTurn,
}

/// The free server connections of a pooler.
#[derive(Clone)]
struct ServerConnections {
    free: Arc<Mutex<VecDeque<UnixStream>>>,
    socket: PathBuf,
    database: String,
}

impl ServerConnections {
    async fn take(&self, pooling: Pooling) -> io::Result<UnixStream> {
        let free = {
            let mut free = self.free.lock().unwrap();
            match pooling {
                Pooling::InTurn => free.pop_front(),
                Pooling::Session | Pooling::LastFirst => free.pop_back(),
            }
        };
        match free {
            Some(server) => Ok(server),
            None => self.open().await,
        }
    }

    fn put_back(&self, server: UnixStream) {
        self.free.lock().unwrap().push_back(server);
    }

    /// Connects to the server and logs in, for which the tests' server needs no password.
    async fn open(&self) -> io::Result<UnixStream> {
        let mut server = UnixStream::connect(&self.socket).await?;
        let database = &self.database;
        let parameters =
            format!("user\0shoreguard\0database\0{database}\0client_encoding\0UTF8\0\0");
        // Version 3.0 of the protocol.
        let mut startup = 196_608_u32.to_be_bytes().to_vec();
        startup.extend(parameters.as_bytes());
        server.write_u32(u32::try_from(startup.len() + 4).unwrap()).await?;
        server.write_all(&startup).await?;
        while read_message(&mut server).await?.0 != b'Z' {}
        Ok(server)
    }
}

/// Reads one message: its type, and its bytes.
async fn read_message(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    let length = from.read_u32().await?;
    let mut message = vec![kind];
    message.extend(length.to_be_bytes());
    message.resize(1 + usize::try_from(length).unwrap(), 0);
    from.read_exact(&mut message[5..]).await?;
    Ok((kind, message))
}

/// Serves one client, whose server connection is free whenever no transaction is open.
async fn serve_transactions(
    mut client: TcpStream,
    servers: ServerConnections,
    pooling: Pooling,
) -> io::Result<()> {
    let length = client.read_u32().await?;
    let mut startup = vec![0; usize::try_from(length).unwrap() - 4];
    client.read_exact(&mut startup).await?;
    // Accepted, a key for cancellations, ready and idle.
    client.write_all(b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I").await?;
    let mut held = None;
    loop {
        let (kind, message) = read_message(&mut client).await?;
        if kind == b'X' {
            return Ok(());
        }
        let mut server = match held.take() {
            Some(server) => server,
            None => servers.take(pooling).await?,
        };
        server.write_all(&message).await?;
        // A query or a sync is answered, other messages wait for one of them.
        let is_answered = matches!(kind, b'Q' | b'S');
        if is_answered && forward_answer(&mut server, &mut client).await? == b'I' {
            servers.put_back(server);
        } else {
            held = Some(server);
        }
    }
}

/// Forwards messages up to the end of an answer. Returns the state of the transaction in its last message.
async fn forward_answer(server: &mut UnixStream, client: &mut TcpStream) -> io::Result<u8> {
    loop {
        let (kind, message) = read_message(server).await?;
        client.write_all(&message).await?;
        if kind == b'Z' {
            return Ok(message[5]);
        }
    }
}

async fn serve_session(mut client: TcpStream, socket: PathBuf) -> io::Result<()> {
    let mut server = UnixStream::connect(socket).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// Starts a pooler before the server's socket. Returns options to connect through it, and its tasks.
async fn start_pooler(database: &Database, pooling: Pooling) -> (DbOptions, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, name) = (listener.local_addr().unwrap().port(), database.name().to_owned());
    let url = format!("postgres://shoreguard@127.0.0.1:{port}/{name}?sslmode=disable");
    let (free, socket) = (Arc::default(), database.socket());
    let servers = ServerConnections { free, socket, database: name };
    if matches!(pooling, Pooling::InTurn) {
        for _ in 0..2 {
            servers.put_back(servers.open().await.unwrap());
        }
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut clients = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let servers = servers.clone();
            clients.spawn(async move {
                match pooling {
                    Pooling::Session => serve_session(client, servers.socket).await,
                    Pooling::LastFirst | Pooling::InTurn => {
                        serve_transactions(client, servers, pooling).await
                    }
                }
            });
        }
    });
    (DbOptions::new(url), tasks)
}

#[test]
fn a_pooler_that_changes_the_server_connection_of_a_client_is_refused() {
    limit::block_on(async {
        let Some(database) = Database::create_migrated().await else { return };
        for pooling in [Pooling::LastFirst, Pooling::InTurn] {
            let (options, _pooler) = start_pooler(&database, pooling).await;
            let refused = Db::open(&options).await.unwrap_err().to_string();
            assert!(refused.contains("`database.url`"), "{pooling:?}: {refused}");
            assert!(refused.contains("use session pooling"), "{pooling:?}: {refused}");
        }
        let (options, _pooler) = start_pooler(&database, Pooling::Session).await;
        Db::open(&options).await.unwrap().ping().await.unwrap();
        database.drop_database();
    });
}

#[test]
fn a_database_with_another_encoding_is_refused() {
    limit::block_on(async {
        let Some(database) = Database::create_with_encoding("SQL_ASCII").await else { return };
        let refused = Db::open(&DbOptions::new(database.url())).await.unwrap_err().to_string();
        assert!(refused.contains("the encoding `SQL_ASCII`"), "{refused}");
        let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'";
        assert!(database.query(tables).await.is_empty(), "it was migrated");
        database.drop_database();
    });
}

#[test]
fn isolation_and_time_zone_do_not_depend_on_defaults_of_the_database() {
    limit::block_on(async {
        let Some(database) = Database::create_migrated().await else { return };
        database.set_default("default_transaction_isolation", Some("serializable")).await;
        database.set_default("TimeZone", Some("Asia/Tokyo")).await;
        let db = Db::open(&DbOptions::new(database.url())).await.unwrap();
        for mut conn in [db.read().await.unwrap(), db.write().await.unwrap()] {
            let Conn::Pg(c) = &mut conn else { unreachable!() };
            for (setting, expected) in
                [("transaction_isolation", "read committed"), ("TimeZone", "UTC")]
            {
                let value = diesel::dsl::sql::<Text>(&format!("current_setting('{setting}')"));
                let value: String = diesel::select(value).get_result(c).await.unwrap();
                assert_eq!(value, expected, "{setting}");
            }
        }
        database.drop_database();
    });
}
