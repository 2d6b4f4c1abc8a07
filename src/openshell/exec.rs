//! Runs commands in a sandbox.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::gateway::Messages;
use super::sandbox::{map_not_found, unreadable};
use super::{Gateway, Generation, v0_0, v0_1};
use crate::db::types::SandboxName;
use crate::error::Error;

const EXEC: &str = "/openshell.v1.OpenShell/ExecSandbox";
const EXEC_INTERACTIVE: &str = "/openshell.v1.OpenShell/ExecSandboxInteractive";

/// A command. It is executed without a shell.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Working directory; if empty, the sandbox's default.
    pub workdir: String,
    /// Variables added to the sandbox's own environment. May contain secrets.
    pub environment: BTreeMap<String, String>,
    /// Time limit, enforced by the gateway; zero is the gateway's own limit.
    pub timeout: Duration,
    /// Standard input, if it is not interactive.
    pub stdin: Vec<u8>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Columns and rows of the terminal.
    pub size: (u32, u32),
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command").field("program", &self.argv.first()).finish_non_exhaustive()
    }
}

/// Input of a running command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Bytes for its standard input.
    Stdin(Bytes),
    /// New size of the terminal.
    Resize {
        /// Columns.
        cols: u32,
        /// Rows.
        rows: u32,
    },
}

/// Output of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Bytes of its standard output.
    Stdout(Bytes),
    /// Bytes of its standard error.
    Stderr(Bytes),
    /// Exit code.
    Exit(i32),
}

/// Output stream of a command. If it is dropped, the gateway ends the command.
#[derive(Debug)]
pub struct OutputStream {
    messages: Messages,
    generation: Generation,
    gateway: String,
    sandbox: SandboxName,
}

impl OutputStream {
    /// Returns the next part, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Output>, Error> {
        loop {
            let Some(message) = self.messages.next().await.map_err(map_not_found(&self.sandbox))?
            else {
                return Ok(None);
            };
            let output = match self.generation {
                Generation::V0_0 => v0_0::decode_exec_output(message),
                Generation::V0_1 => v0_1::decode_exec_output(message),
            };
            let unreadable = |_| unreadable(&self.gateway, EXEC);
            if let Some(output) = output.map_err(unreadable)? {
                return Ok(Some(output));
            }
        }
    }
}

/// Control character that ends the input of a terminal.
const END_OF_INPUT: &[u8] = &[4];

/// Input stream of a command. If it is dropped, a gateway of generation 0.1 closes the command's input, and a gateway
/// of generation 0.0 aborts the command.
#[derive(Debug)]
pub struct InputStream {
    sender: mpsc::Sender<Bytes>,
    generation: Generation,
    tty: bool,
}

impl InputStream {
    /// Ends the input as far as the gateway supports it. In generation 0.0 the input stream must stay open while the
    /// response is read: a terminal gets the character that ends its input, and a command without a terminal cannot be
    /// notified.
    #[must_use = "dropping it aborts the command in generation 0.0"]
    pub async fn end(self) -> Option<Self> {
        match self.generation {
            Generation::V0_1 => None,
            Generation::V0_0 => {
                if self.tty {
                    self.send(Input::Stdin(Bytes::from_static(END_OF_INPUT))).await;
                }
                Some(self)
            }
        }
    }

    /// Sends input. Returns false if it is not read any more.
    pub async fn send(&self, input: Input) -> bool {
        let message = match self.generation {
            Generation::V0_0 => v0_0::encode_exec_input(input),
            Generation::V0_1 => v0_1::encode_exec_input(input),
        };
        self.sender.send(message.into()).await.is_ok()
    }
}

impl Gateway {
    /// Runs a command. The request is sent only once.
    pub async fn exec(
        &self,
        sandbox: &SandboxName,
        command: &Command,
    ) -> Result<OutputStream, Error> {
        self.check_timeout(command)?;
        let request = match self.generation() {
            Generation::V0_0 => v0_0::encode_exec(&self.get_sandbox(sandbox).await?.id, command),
            Generation::V0_1 => v0_1::encode_exec(sandbox, command),
        };
        let messages = self.stream(EXEC, &request).await.map_err(map_not_found(sandbox))?;
        Ok(self.output_stream(messages, sandbox))
    }

    /// Runs a command with an input stream. The request is sent only once.
    pub async fn exec_interactive(
        &self,
        sandbox: &SandboxName,
        command: &Command,
    ) -> Result<(InputStream, OutputStream), Error> {
        self.check_timeout(command)?;
        let first = match self.generation() {
            Generation::V0_0 => {
                v0_0::encode_exec_start(&self.get_sandbox(sandbox).await?.id, command)
            }
            Generation::V0_1 => v0_1::encode_exec_start(sandbox, command),
        };
        let opened = self.duplex(EXEC_INTERACTIVE, &first).await;
        let (sender, messages) = opened.map_err(map_not_found(sandbox))?;
        let inputs = InputStream { sender, generation: self.generation(), tty: command.tty };
        Ok((inputs, self.output_stream(messages, sandbox)))
    }

    /// Rejects fractions of a second in generation 0.0, which counts seconds: less than one second would be sent as no
    /// timeout.
    fn check_timeout(&self, command: &Command) -> Result<(), Error> {
        match self.generation() {
            Generation::V0_0 if command.timeout.subsec_nanos() != 0 => {
                let why = "must be whole seconds on a gateway of generation 0.0";
                Err(Error::invalid("timeout", why))
            }
            Generation::V0_0 | Generation::V0_1 => Ok(()),
        }
    }

    fn output_stream(&self, messages: Messages, sandbox: &SandboxName) -> OutputStream {
        let (generation, gateway) = (self.generation(), self.name().to_string());
        OutputStream { messages, generation, gateway, sandbox: sandbox.clone() }
    }
}
