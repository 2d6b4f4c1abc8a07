//! Streams of responses of the table's commands. Those with a position resume after it when the connection was lost.
//!
//! Invariants
//! - the position is that of the last response that was printed, so that nothing is skipped;
//! - a stream without a position is not opened again, since the new one would begin from the start.

use prost_reflect::{DynamicMessage, MethodDescriptor};
use tonic::{Code, Status};

use super::render;
use super::table::Row;
use crate::cli::connect::{Client, StreamAttempts};
use crate::cli::globals::OutputFormat;
use crate::cli::{CliError, output};

/// Fields of a request and of its responses that have the position of a watch.
const POSITIONS: [(&str, &str); 2] = [("after_sequence", "sequence"), ("cursor", "cursor")];

/// A stream, and where it is.
struct Watch<'a> {
    row: &'a Row,
    method: &'a MethodDescriptor,
    format: OutputFormat,
    /// The request of the next connection.
    request: DynamicMessage,
    /// The fields that have the position. `None` if the stream has none.
    fields: Option<(&'static str, &'static str)>,
    attempts: StreamAttempts,
}

/// Returns the fields that have the position of a watch.
fn fields_of(method: &MethodDescriptor) -> Option<(&'static str, &'static str)> {
    let (request, response) = (method.input(), method.output());
    POSITIONS.into_iter().find(|(asked, answered)| {
        request.get_field_by_name(asked).is_some() && response.get_field_by_name(answered).is_some()
    })
}

/// Prints each message of a stream until it ends, or until standard output is no longer read.
pub(super) async fn follow(
    row: &Row,
    method: &MethodDescriptor,
    request: DynamicMessage,
    format: OutputFormat,
    client: &mut Client,
) -> Result<(), CliError> {
    let (fields, attempts) = (fields_of(method), StreamAttempts::begin());
    let mut watch = Watch { row, method, format, request, fields, attempts };
    loop {
        let error = match watch.print_once(client).await {
            Ok(true) => return Ok(()),
            Ok(false) => Status::new(Code::Unavailable, "the server has ended the stream").into(),
            Err(error) => error,
        };
        if watch.fields.is_some() {
            watch.attempts.wait_after(client, error).await?;
            continue;
        }
        return Err(explain(client, error));
    }
}

/// Says what to do about a lost connection.
fn explain(client: &Client, error: CliError) -> CliError {
    if let CliError::Call(status) = error { client.failure(*status) } else { error }
}

impl Watch<'_> {
    /// Prints the messages of one connection. Returns whether the watch is over: it is not if the server ends a stream
    /// that can resume.
    async fn print_once(&mut self, client: &mut Client) -> Result<bool, CliError> {
        let mut answers = client.open_stream(self.method, self.request.clone()).await?;
        self.attempts.accept();
        loop {
            let answer = tokio::select! {
                biased;
                answer = answers.message() => answer?,
                () = output::closed() => return Ok(true),
            };
            let Some(answer) = answer else { return Ok(self.fields.is_none()) };
            if render::print_message(self.row, &answer, self.format)?.is_break() {
                return Ok(true);
            }
            self.move_to(&answer);
            self.attempts.reset();
        }
    }

    /// Moves the request behind a message. A message before the first position has 0.
    fn move_to(&mut self, answer: &DynamicMessage) {
        let Some((asked, answered)) = self.fields else { return };
        let position = answer.get_field_by_name(answered).map(std::borrow::Cow::into_owned);
        if let Some(position) = position.filter(|position| position.as_i64() != Some(0)) {
            self.request.set_field_by_name(asked, position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{fields, table};
    use super::*;

    #[test]
    fn watches_of_changes_have_a_position() {
        for (noun, found) in [
            ("gateway", Some(("after_sequence", "sequence"))),
            ("approval", Some(("cursor", "cursor"))),
            ("operation", None),
            ("sandbox", None),
        ] {
            let row = table::find(noun, "watch").unwrap();
            assert_eq!(fields_of(&fields::method(row).unwrap()), found, "{noun}");
        }
    }
}
