//! The text of an error with its sources, since libraries often describe only the kind of an error themselves.

use std::error::Error;

/// Joins the message of an error with those of its sources. Leaves out a source whose message the text already contains,
/// since some errors repeat their source.
pub(crate) fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let message = cause.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Link {
        message: &'static str,
        source: Option<Box<Link>>,
    }

    impl fmt::Display for Link {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.message)
        }
    }

    impl Error for Link {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.source.as_deref().map(|source| source as &(dyn Error + 'static))
        }
    }

    #[test]
    fn a_chain_contains_each_message_once() {
        let cases: &[(&[&'static str], &str)] = &[
            (&["closed"], "closed"),
            (&["transport error", "tcp error", "refused"], "transport error: tcp error: refused"),
            (&["send: refused", "refused"], "send: refused"),
            (&["send (refused)", "refused", "errno 111"], "send (refused): errno 111"),
            (&["send", "tcp: refused", "refused"], "send: tcp: refused"),
            (&["refused", "tcp: refused"], "refused: tcp: refused"),
            (&["send", "", "refused"], "send: refused"),
        ];
        for (messages, expected) in cases {
            let mut chain = None;
            for &message in messages.iter().rev() {
                chain = Some(Box::new(Link { message, source: chain }));
            }
            let error = chain.unwrap();
            assert_eq!(error_chain(&*error), *expected, "{messages:?}");
        }
    }
}
