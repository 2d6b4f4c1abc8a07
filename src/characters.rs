//! Characters that change how a reader sees the text around them, or that a reader does not see.

/// Whether a character makes a reader see another text than the stored text: marks that change the direction of the text
/// after them, separators of lines and paragraphs, and invisible tags. Other characters without a visible form
/// are allowed in texts for people, unlike in names, since emojis and some scripts need them.
fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether a character has no visible form of its own: control and format characters, fillers, variation selectors, and
/// all spaces except U+0020. Names and addresses with such characters could not be distinguished by a reader.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    let is_default_ignorable = matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    );
    // U+2800 is the empty pattern of braille.
    is_default_ignorable || c.is_control() || (c.is_whitespace() && c != ' ') || c == '\u{2800}'
}

/// Returns the characters of a text from outside as they can be shown: with a space for each that a terminal, a log or
/// a chat could interpret, or that readers do not see (T20). A text is read only as far as it is shown.
pub fn replace_invisible(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|c| if is_invisible(c) { ' ' } else { c })
}

/// Mark at the end of a text that is cut.
pub const CUT: char = '\u{2026}';

/// Returns a text from outside as [`replace_invisible`] does, at most `characters_max` characters long. A text that is
/// cut ends with [`CUT`].
#[must_use]
pub fn excerpt(text: &str, characters_max: usize) -> String {
    let mut shown: String = replace_invisible(text).take(characters_max).collect();
    if text.chars().nth(characters_max).is_some() {
        shown.pop();
        shown.push(CUT);
    }
    shown
}

/// Cuts a text to `characters_max` characters, without a mark. Returns whether it was longer.
pub fn shorten(text: &mut String, characters_max: usize) -> bool {
    let end = text.char_indices().nth(characters_max).map(|(at, _)| at);
    if let Some(end) = end {
        text.truncate(end);
    }
    end.is_some()
}

/// Whether a text can be the name of a gateway, a sandbox or a template, or the key of a label: an ASCII letter or
/// digit, then letters, digits, `.`, `_` and `-`. The length is not checked.
#[must_use]
pub fn is_ascii_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// Whether a text of one line is read as it is stored: without control characters and deceptive ones.
#[must_use]
pub fn is_plain_line(text: &str) -> bool {
    is_plain_text(text, "")
}

/// Whether a text is read as it is stored: as for a line, but with these control characters, such as line breaks.
#[must_use]
pub fn is_plain_text(text: &str, allowed: &str) -> bool {
    text.chars().all(|c| is_plain(c, allowed))
}

/// Returns the characters of a text with a space for each that [`is_plain_text`] refuses.
pub fn plain_text(text: &str, allowed: &str) -> impl Iterator<Item = char> {
    text.chars().map(move |c| if is_plain(c, allowed) { c } else { ' ' })
}

fn is_plain(c: char, allowed: &str) -> bool {
    (!c.is_control() || allowed.contains(c)) && !is_deceptive(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t20_a_text_is_read_as_it_is_stored() {
        for good in ["", "a", "\u{e4} \u{2764}\u{fe0f}"] {
            assert!(is_plain_line(good) && is_plain_text(good, "\n"), "{good:?}");
        }
        for (text, allowed) in [("a\nb", "\n"), ("a\r\nb", "\r\n"), ("a\tb\n", "\n\t")] {
            assert!(is_plain_text(text, allowed) && !is_plain_line(text), "{text:?}");
            assert!(!is_plain_text(text, &allowed[1..]), "{text:?} without {allowed:?}");
            assert_eq!(plain_text(text, allowed).collect::<String>(), text);
        }
        for bad in
            ["\u{1b}[2J", "a\0", "safe \u{202e}live", "a\u{2066}", "a\u{2029}b", "a\u{e0041}"]
        {
            assert!(!is_plain_text(bad, "\n\r\t") && !is_plain_line(bad), "{bad:?}");
            let plain: String = plain_text(bad, "").collect();
            assert!(is_plain_line(&plain), "{bad:?}");
            assert_eq!(plain.chars().count(), bad.chars().count(), "{bad:?}");
        }
    }

    #[test]
    fn a_text_is_shortened_at_its_limit() {
        for (text, characters_max, expected) in [
            ("", 0, ("", false)),
            ("a", 0, ("", true)),
            ("\u{e4}\u{20ac}", 2, ("\u{e4}\u{20ac}", false)),
            ("\u{e4}\u{20ac}c", 2, ("\u{e4}\u{20ac}", true)),
        ] {
            let mut short = text.to_owned();
            let was_longer = shorten(&mut short, characters_max);
            assert_eq!((short.as_str(), was_longer), expected, "{text:?}");
        }
    }

    #[test]
    fn an_ascii_name_begins_with_a_letter_or_digit() {
        for good in ["a", "Z", "0", "a.b_c-1", "a-", "0."] {
            assert!(is_ascii_name(good), "{good}");
        }
        for bad in ["", "-a", ".a", "_a", "a b", "a/b", "\u{e4}", "a\u{e4}", "a\n"] {
            assert!(!is_ascii_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn t20_characters_that_readers_do_not_see_are_replaced_by_spaces() {
        for (text, shown) in [
            ("", ""),
            ("a \u{e4} \u{1f980}", "a \u{e4} \u{1f980}"),
            // Control characters, of both ranges.
            ("a\r\n\tb\u{1b}[31mc\0\u{85}", "a   b [31mc  "),
            // Marks of direction, and separators of lines.
            ("a\u{61c}b\u{202e}c\u{2066}d\u{2028}e", "a b c d e"),
            // Characters without a width, fillers, variation selectors, and tags.
            ("/bin/s\u{ad}h\u{200b}\u{feff}", "/bin/s h  "),
            ("a\u{3164}b\u{2800}c\u{fe0f}d\u{e0041}e", "a b c d e"),
            // Spaces that are not U+0020.
            ("a\u{a0}b\u{3000}c", "a b c"),
        ] {
            assert_eq!(replace_invisible(text).collect::<String>(), shown, "{text:?}");
            assert_eq!(excerpt(text, 100), shown, "{text:?}");
        }
    }

    #[test]
    fn an_excerpt_is_cut_at_its_limit_and_ends_with_an_ellipsis() {
        for (text, characters_max, shown) in [
            ("", 0, ""),
            ("\u{20ac}\u{20ac}\u{20ac}", 3, "\u{20ac}\u{20ac}\u{20ac}"),
            ("\u{20ac}\u{20ac}\u{20ac}\u{20ac}", 3, "\u{20ac}\u{20ac}\u{2026}"),
            ("abc\u{200b}", 3, "ab\u{2026}"),
            ("ab", 1, "\u{2026}"),
        ] {
            assert_eq!(excerpt(text, characters_max), shown, "{text:?}");
        }
    }
}
