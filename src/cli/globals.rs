//! Options that every command that calls a server takes.

use clap::{Args, Command, ValueEnum};

use super::connect::ConnectArgs;

/// The server, the credential, and the form of the answer.
#[derive(Debug, Args)]
pub(super) struct Globals {
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    pub(super) output: OutputFormat,
    /// Prints only the answer and errors.
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Answers the question of a dangerous command with yes.
    #[arg(short, long)]
    pub(super) yes: bool,
}

impl Globals {
    /// Adds the options to a command. The command keeps its description, which clap would replace by that of the options.
    pub(super) fn add_to(command: Command) -> Command {
        let (about, long) = (command.get_about().cloned(), command.get_long_about().cloned());
        let mut command = Self::augment_args(command);
        if let Some(about) = about {
            command = command.about(about);
        }
        if let Some(long) = long {
            command = command.long_about(long);
        }
        command
    }
}

/// Form of an answer on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// Columns for people. They may change between versions.
    Table,
    /// All columns.
    Wide,
    /// The response as JSON with the field names of the proto.
    Json,
    /// One item a line.
    Jsonl,
    /// The response as YAML.
    Yaml,
    /// Names only, one a line.
    Name,
}

impl OutputFormat {
    /// Whether people read it. The other forms are for programs.
    pub(super) const fn is_for_people(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}
