//! Commands that are run inside a sandbox.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::gateway::Messages;
use super::sandbox::{about, unreadable};
use super::{Gateway, Generation, v0_0, v0_1};
use crate::db::types::SandboxName;
use crate::error::Error;

const EXEC: &str = "/openshell.v1.OpenShell/ExecSandbox";
const EXEC_INTERACTIVE: &str = "/openshell.v1.OpenShell/ExecSandboxInteractive";

/// A command, as it is: no shell reads it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Where it runs; empty is the sandbox's own choice.
    pub workdir: String,
    /// What its environment has besides the sandbox's own. May be secret.
    pub environment: BTreeMap<String, String>,
    /// After which the gateway ends it; zero is the gateway's own bound.
    pub timeout: Duration,
    /// What it can read, where it is not interactive.
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

/// What goes to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Bytes to read.
    Stdin(Bytes),
    /// Another size of the terminal.
    Resize {
        /// Columns.
        cols: u32,
        /// Rows.
        rows: u32,
    },
}

/// What comes from a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Bytes of its output.
    Stdout(Bytes),
    /// Bytes of its error output.
    Stderr(Bytes),
    /// It has ended, with this code.
    Exit(i32),
}

/// What comes from a command, as it comes. Dropped, the gateway ends the command.
#[derive(Debug)]
pub struct Outputs {
    messages: Messages,
    generation: Generation,
    gateway: String,
    place: SandboxName,
}

impl Outputs {
    /// The next piece; none at the end.
    pub async fn next(&mut self) -> Result<Option<Output>, Error> {
        loop {
            let Some(message) = self.messages.next().await.map_err(about(&self.place))? else {
                return Ok(None);
            };
            let output = match self.generation {
                Generation::V0_0 => v0_0::exec_output(message),
                Generation::V0_1 => v0_1::exec_output(message),
            };
            let unreadable = |_| unreadable(&self.gateway, EXEC);
            if let Some(output) = output.map_err(unreadable)? {
                return Ok(Some(output));
            }
        }
    }
}

/// The character that ends the input of a terminal.
const END_OF_INPUT: &[u8] = &[4];

/// Where the input of a command goes. Dropped, a gateway of generation 0.1 tells the command its end, and one of
/// generation 0.0 aborts the command.
#[derive(Debug)]
pub struct Inputs {
    sender: mpsc::Sender<Bytes>,
    generation: Generation,
    tty: bool,
}

impl Inputs {
    /// Ends the input as far as the gateway lets us. In generation 0.0 the way stays open while the answer is held: a
    /// terminal gets the character that ends its input, and without one nothing can tell the command.
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

    /// Sends a piece; false where nobody reads any more.
    pub async fn send(&self, input: Input) -> bool {
        let message = match self.generation {
            Generation::V0_0 => v0_0::exec_input(input),
            Generation::V0_1 => v0_1::exec_input(input),
        };
        self.sender.send(message.into()).await.is_ok()
    }
}

impl Gateway {
    /// Runs a command. Sent once.
    pub async fn exec(&self, place: &SandboxName, command: &Command) -> Result<Outputs, Error> {
        self.fits(command)?;
        let request = match self.generation() {
            Generation::V0_0 => v0_0::exec(&self.get_sandbox(place).await?.id, command),
            Generation::V0_1 => v0_1::exec(place, command),
        };
        let messages = self.stream(EXEC, &request).await.map_err(about(place))?;
        Ok(self.outputs(messages, place))
    }

    /// Runs a command that goes on reading. Sent once.
    pub async fn exec_interactive(
        &self,
        place: &SandboxName,
        command: &Command,
    ) -> Result<(Inputs, Outputs), Error> {
        self.fits(command)?;
        let first = match self.generation() {
            Generation::V0_0 => v0_0::exec_start(&self.get_sandbox(place).await?.id, command),
            Generation::V0_1 => v0_1::exec_start(place, command),
        };
        let opened = self.duplex(EXEC_INTERACTIVE, &first).await;
        let (sender, messages) = opened.map_err(about(place))?;
        let inputs = Inputs { sender, generation: self.generation(), tty: command.tty };
        Ok((inputs, self.outputs(messages, place)))
    }

    /// Generation 0.0 counts a command's time in seconds, and what is less would be none.
    fn fits(&self, command: &Command) -> Result<(), Error> {
        match self.generation() {
            Generation::V0_0 if command.timeout.subsec_nanos() != 0 => {
                let why = "must be whole seconds on a gateway of generation 0.0";
                Err(Error::invalid("timeout", why))
            }
            Generation::V0_0 | Generation::V0_1 => Ok(()),
        }
    }

    fn outputs(&self, messages: Messages, place: &SandboxName) -> Outputs {
        let (generation, gateway) = (self.generation(), self.name().to_string());
        Outputs { messages, generation, gateway, place: place.clone() }
    }
}
