//! Replaces half characters in JSON texts.
//!
//! A JSON text can contain the escape of a surrogate without its other half (RFC 8259, section 8.2). Python writes
//! bytes of file names that are not UTF-8 that way. No Unicode text can contain it, and PostgreSQL rejects it.

use std::borrow::Cow;

/// Replaces each escape of a lone surrogate with that of U+FFFD, in all texts of the document. Positions of errors stay
/// the same, since both escapes have the same length.
pub(super) fn replace_lone(text: &str) -> Cow<'_, str> {
    let (mut replaced, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(found) = text.as_bytes().get(at..).and_then(next_escape) {
        at += found;
        match code_unit(text, at) {
            Some(0xd800..=0xdbff) if matches!(code_unit(text, at + 6), Some(0xdc00..=0xdfff)) => {
                at += 12;
            }
            Some(0xd800..=0xdfff) => {
                replaced.push_str(&text[copied..at]);
                replaced.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            Some(_) => at += 6,
            // The character after the backslash begins no other escape.
            None => at += 2,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    replaced.push_str(&text[copied..]);
    Cow::Owned(replaced)
}

fn next_escape(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\\')
}

/// Returns the code unit of the escape `\uXXXX` at a position.
fn code_unit(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lone_surrogates_are_replaced() {
        for (text, replaced) in [
            (r#""caf\udce9.txt""#, r#""caf\ufffd.txt""#),
            (r#""\uD83D\uDE00""#, r#""\uD83D\uDE00""#),
            (r#""\uD83D\uD83D\uDE00""#, r#""\ufffd\uD83D\uDE00""#),
            (r#""\uDE00\uD83D""#, r#""\ufffd\ufffd""#),
            (r#""\uD83D\u0041\ud83d""#, r#""\ufffd\u0041\ufffd""#),
            // An escaped backslash, after which `u` is a letter.
            (r#""\\udce9\\\udce9""#, r#""\\udce9\\\ufffd""#),
            (r#""\n\ud8""#, r#""\n\ud8""#),
            ("\"\\u\u{e9}\u{e9}\u{e9}\"", "\"\\u\u{e9}\u{e9}\u{e9}\""),
            ("\\", "\\"),
            ("", ""),
        ] {
            assert_eq!(replace_lone(text), replaced);
        }
    }
}
