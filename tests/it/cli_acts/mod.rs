//! Commands that are written by hand, with the real binary against a server of the test.

mod call;
mod ends;
mod events;
mod exec;
mod operations;
mod policy_files;
mod review;
mod sbom_files;
mod terminal;

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use tokio::task::JoinHandle;

use crate::commands::{ChildProcess, shoreguard_command, text};
use crate::support::eventually;
use crate::support::server::TestServer;

/// Returns a command that calls the server of the test with a credential.
fn command(sg: &TestServer, key: &str, arguments: &[&str]) -> Command {
    let mut command = shoreguard_command(arguments);
    command
        .env("SHOREGUARD_ENDPOINT", format!("http://{}", sg.address))
        .env("SHOREGUARD_KEY", key)
        // Contexts and credentials of the user who runs the tests are not read.
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    command
}

/// A command that has ended.
#[derive(Debug)]
struct Ended {
    /// Exit code. `None` after a signal.
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// A command that runs, with pipes.
struct Running {
    process: ChildProcess,
    stdin: Option<ChildStdin>,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
}

fn read_all(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// Starts a command. Its standard input stays open until [`Running::finish`].
fn start(mut command: Command) -> Running {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    Running {
        stdin: child.stdin.take(),
        process: ChildProcess(child),
        stdout: read_all(stdout),
        stderr: read_all(stderr),
    }
}

/// Waits until a process has ended. Returns its exit code.
async fn exit_code(child: &mut Child) -> Option<i32> {
    let mut ended = None;
    let id = child.id();
    eventually(&format!("process {id} ends"), || {
        ended = child.try_wait().unwrap();
        let has_ended = ended.is_some();
        async move { has_ended }
    })
    .await;
    ended.unwrap().code()
}

impl Running {
    /// Waits until the command has ended by itself, with its standard input open.
    async fn ended(mut self) -> Ended {
        let code = exit_code(&mut self.process.0).await;
        let (stdout, stderr) = (self.stdout.await.unwrap(), self.stderr.await.unwrap());
        drop(self.stdin);
        Ended { code, stdout: text(&stdout), stderr: text(&stderr) }
    }

    /// Gives the command the rest of its input, and waits until it has ended.
    async fn finish(mut self, input: &[u8]) -> Ended {
        let mut stdin = self.stdin.take().unwrap();
        stdin.write_all(input).unwrap();
        drop(stdin);
        self.ended().await
    }
}

/// Runs a command without input.
async fn run_to_end(sg: &TestServer, key: &str, arguments: &[&str]) -> Ended {
    start(command(sg, key, arguments)).finish(b"").await
}
