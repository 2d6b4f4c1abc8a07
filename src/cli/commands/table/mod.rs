//! The table of commands: one line per command, most of them one rpc each.
//!
//! Invariants
//! - every own rpc has a line here or in [`ELSEWHERE`], where the command that calls it is named;
//! - what a line does not say is read from the descriptors: flags, their types and their help.

mod access;
mod fleet;
mod governance;
mod sandboxes;

/// One command. Lists in it are separated by spaces or commas.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Row {
    /// Service and rpc: `GatewayService/ListGateways`.
    pub(in crate::cli) rpc: &'static str,
    /// Noun and verb: `gateway list`.
    pub(in crate::cli) command: &'static str,
    /// First sentence of the help. Empty: that of the rpc.
    pub(super) about: &'static str,
    /// Positional arguments: names of fields, with `?` at the end if optional, `...` if repeated, `--` for everything
    /// after `--`; or in capitals one of the forms of `places.rs`.
    pub(super) takes: &'static str,
    /// Columns: paths in an item, each with `~` at the end to show an age, and `=TITLE` for another title. Those after
    /// `|` are only in the wide form.
    pub(super) columns: &'static str,
    /// Paths that form the name of an item, joined by `/`. Empty: the first column. Of a response that is not a list, the
    /// paths in it; empty: the name of its message.
    pub(super) name: &'static str,
    /// Field of the request that names what the command is about, if the response has no name. Empty: the first argument.
    pub(super) target: &'static str,
    /// Other names of flags: `path=flag`.
    pub(super) renames: &'static str,
    /// Message fields whose own fields are flags without a prefix.
    pub(super) flat: &'static str,
    /// Fields with a fixed value: `field=VALUE`. They are not flags.
    pub(super) presets: &'static str,
    /// Text fields that are read from `@FILE` or `-`, since they are documents.
    pub(super) documents: &'static str,
    /// Fields without which the server refuses the request, in addition to those whose comment says so. A message is
    /// given if one of its fields is.
    pub(super) requires: &'static str,
    /// Question before the command runs; `{field}` is the value of a field.
    pub(super) question: &'static str,
    /// Field of the response that is false if what was asked about is not in order. The command then exits with 1.
    pub(super) fails_unless: &'static str,
    /// Bytes field of the responses that is written to standard output or a file as it is.
    pub(super) raw: &'static str,
}

impl Row {
    const fn takes(mut self, takes: &'static str) -> Self {
        self.takes = takes;
        self
    }

    const fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    const fn columns(mut self, columns: &'static str) -> Self {
        self.columns = columns;
        self
    }

    const fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    const fn target(mut self, target: &'static str) -> Self {
        self.target = target;
        self
    }

    const fn renames(mut self, renames: &'static str) -> Self {
        self.renames = renames;
        self
    }

    const fn flat(mut self, flat: &'static str) -> Self {
        self.flat = flat;
        self
    }

    const fn presets(mut self, presets: &'static str) -> Self {
        self.presets = presets;
        self
    }

    const fn documents(mut self, documents: &'static str) -> Self {
        self.documents = documents;
        self
    }

    const fn requires(mut self, requires: &'static str) -> Self {
        self.requires = requires;
        self
    }

    const fn asks(mut self, question: &'static str) -> Self {
        self.question = question;
        self
    }

    const fn fails_unless(mut self, field: &'static str) -> Self {
        self.fails_unless = field;
        self
    }

    const fn raw(mut self, raw: &'static str) -> Self {
        self.raw = raw;
        self
    }

    /// Returns the columns, in the wide form those after `|` as well.
    pub(super) fn columns_of(&self, is_wide: bool) -> impl Iterator<Item = &'static str> {
        let (usual, wide) = self.columns.split_once('|').unwrap_or((self.columns, ""));
        let wide = if is_wide { wide } else { "" };
        let words = |text: &'static str| text.split([' ', ',']).filter(|word| !word.is_empty());
        words(usual).chain(words(wide))
    }

    /// Returns the noun.
    pub(super) fn noun(&self) -> &'static str {
        self.command.split(' ').next().unwrap_or_default()
    }

    /// Returns the verb.
    pub(super) fn verb(&self) -> &'static str {
        self.command.split_once(' ').map_or("", |(_, verb)| verb)
    }
}

/// Begins a line.
const fn row(rpc: &'static str, command: &'static str) -> Row {
    Row {
        rpc,
        command,
        about: "",
        takes: "",
        columns: "",
        name: "",
        target: "",
        renames: "",
        flat: "",
        presets: "",
        documents: "",
        requires: "",
        question: "",
        fails_unless: "",
        raw: "",
    }
}

/// The lines by area.
static AREAS: [&[Row]; 4] = [fleet::ROWS, sandboxes::ROWS, governance::ROWS, access::ROWS];

/// Rpcs without a line, each with the command that calls it.
#[cfg(test)]
pub(super) const ELSEWHERE: &[(&str, &str)] = &[
    ("AuthService/Login", "login"),
    ("AuthService/BeginOidcLogin", "login"),
    ("AuthService/CompleteOidcLogin", "login"),
    ("AuthService/BeginDeviceLogin", "login"),
    ("AuthService/CompleteDeviceLogin", "login"),
    // Every command refreshes the session of its context.
    ("AuthService/RefreshSession", "login"),
    ("AuthService/Logout", "logout"),
    ("AuthService/GetCurrentIdentity", "whoami"),
    ("EventService/WatchEvents", "event watch"),
    ("OperationService/WaitOperation", "operation wait"),
    ("PolicyService/ApplyPolicy", "policy apply"),
    ("PolicyService/DiffPolicies", "policy diff"),
    ("PolicyService/ExportPolicy", "policy export"),
    ("SandboxService/ExecSandbox", "sandbox exec"),
    ("SbomService/UploadSbom", "sbom upload"),
];

/// Returns all lines.
pub(in crate::cli) fn rows() -> impl Iterator<Item = &'static Row> {
    AREAS.iter().flat_map(|rows| rows.iter())
}

/// Returns the line of a command.
pub(super) fn find(noun: &str, verb: &str) -> Option<&'static Row> {
    rows().find(|row| row.noun() == noun && row.verb() == verb)
}
