//! Characters that change how a reader sees the text around them.

/// Whether a character makes a reader see another text than the stored text: marks that change the direction of the text
/// after them, separators of lines and paragraphs, and invisible tags. Other characters without a visible form
/// are allowed in texts for people, unlike in names, since emojis and some scripts need them.
#[must_use]
pub fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether a text of one line is read as it is stored: without control characters and deceptive ones.
#[must_use]
pub fn is_plain_line(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() || is_deceptive(c))
}

/// Whether a text is read as it is stored: as for a line, but with line breaks and tabs.
#[must_use]
pub fn is_plain_text(text: &str) -> bool {
    !text.contains(|c: char| (c.is_control() && !"\n\r\t".contains(c)) || is_deceptive(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t20_a_text_is_read_as_it_is_stored() {
        for good in ["", "a", "\u{e4} \u{2764}\u{fe0f}"] {
            assert!(is_plain_line(good) && is_plain_text(good), "{good:?}");
        }
        for lines in ["a\nb", "a\r\nb", "a\tb"] {
            assert!(is_plain_text(lines) && !is_plain_line(lines), "{lines:?}");
        }
        for bad in
            ["\u{1b}[2J", "a\0", "safe \u{202e}live", "a\u{2066}", "a\u{2029}b", "a\u{e0041}"]
        {
            assert!(!is_plain_text(bad) && !is_plain_line(bad), "{bad:?}");
        }
    }
}
