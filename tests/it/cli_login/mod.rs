//! The command line against a server: logins, stored sessions and contexts. Each test has a home folder of its own.

mod contexts;
mod device;
mod hints;
mod oidc;
mod password;
mod refresh;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use crate::commands::{shoreguard_command, text};
use crate::support::server::TestServer;

/// The folder of a user of the command line.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    /// URL of the server.
    pub(crate) endpoint: String,
}

impl Home {
    pub(crate) fn new(sg: &TestServer) -> Self {
        Self::of(format!("http://{}", sg.address))
    }

    pub(crate) fn of(endpoint: String) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), endpoint }
    }

    /// Returns the path of a stored file.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join("shoreguard").join(file)
    }

    /// Returns the text of a stored file.
    pub(crate) fn stored(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap_or_default()
    }

    /// Returns a command of this user.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = shoreguard_command(arguments);
        command
            .env("XDG_CONFIG_HOME", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "").await
    }

    /// Runs a command with a standard input.
    pub(crate) async fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        // A command that does not read its input closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        wait(child).await
    }

    /// Runs a command that must succeed. Returns its standard output.
    pub(crate) async fn succeed(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments).await;
        assert!(done.status.success(), "{arguments:?}: {done:?}");
        text(&done.stdout)
    }

    /// Runs a command that must fail with this code. Returns its standard error.
    pub(crate) async fn fail(&self, code: i32, arguments: &[&str]) -> String {
        let done = self.run(arguments).await;
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {done:?}");
        assert!(done.stdout.is_empty(), "{arguments:?}: {done:?}");
        text(&done.stderr)
    }

    /// Logs in with a password. The context is named after the host.
    pub(crate) async fn log_in(&self, email: &str, password: &str) {
        let arguments =
            ["login", "--endpoint", self.endpoint.as_str(), "--email", email, "--password-stdin"];
        let done = self.run_with(&arguments, &format!("{password}\n")).await;
        assert!(done.status.success(), "{done:?}");
    }

    /// Changes a stored file, as a person does with an editor.
    pub(crate) fn edit(&self, file: &str, change: impl Fn(&str) -> String) {
        let lines: Vec<String> = self.stored(file).lines().map(change).collect();
        std::fs::write(self.path(file), lines.join("\n") + "\n").unwrap();
    }

    /// Sets the expiration of the stored session token to the past.
    pub(crate) fn expire_session(&self) {
        self.edit("credentials.toml", |line| {
            let is_expiration = line.starts_with("expire_time = ");
            if is_expiration { "expire_time = 2026-01-01T00:00:00Z" } else { line }.to_owned()
        });
    }

    pub(crate) fn mode(&self, file: &str) -> u32 {
        self.path(file).metadata().unwrap().permissions().mode() & 0o777
    }

    pub(crate) fn set_mode(&self, file: &str, mode: u32) {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.path(file), mode).unwrap();
    }
}

/// Waits until a process has ended, without blocking the server of the test.
pub(crate) async fn wait(child: Child) -> Output {
    tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap()
}

/// Returns the value of a field in a stored file.
pub(crate) fn field<'a>(stored: &'a str, name: &str) -> &'a str {
    let start = format!("{name} = ");
    let value = stored.lines().find_map(|line| line.strip_prefix(&start));
    value.unwrap_or_else(|| panic!("no `{name}`")).trim_matches('"')
}
