//! Reads the protobuf wire format field by field: enough to inspect a message without decoding it.

/// The value of one field in wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64,
    /// Wire type 2: a string, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32,
}

/// The bytes are not a valid message. Groups count as invalid: proto3 has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedMessage;

/// Reads fields one by one.
#[derive(Debug, Clone, Copy)]
pub struct FieldReader<'a> {
    /// The bytes that were not read yet.
    pub rest: &'a [u8],
}

impl<'a> FieldReader<'a> {
    /// Starts at the first field of a message.
    #[must_use]
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Reads a varint of at most 64 bits.
    pub fn read_varint(&mut self) -> Result<u64, MalformedMessage> {
        let mut value = 0_u64;
        for (i, byte) in self.rest.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if i == 9 && bits > 1 {
                return Err(MalformedMessage);
            }
            value |= bits << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(MalformedMessage)
    }

    /// Reads the next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], MalformedMessage> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(MalformedMessage)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads the next field. Returns `None` at the end.
    pub fn next_field(&mut self) -> Result<Option<(u32, FieldValue<'a>)>, MalformedMessage> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = u32::try_from(self.read_varint()?).map_err(|_| MalformedMessage)?;
        let number = key >> 3;
        if number == 0 {
            return Err(MalformedMessage);
        }
        let value = match key & 7 {
            0 => FieldValue::Varint(self.read_varint()?),
            1 => self.take(8).map(|_| FieldValue::Fixed64)?,
            2 => {
                let n = usize::try_from(self.read_varint()?).map_err(|_| MalformedMessage)?;
                FieldValue::Bytes(self.take(n)?)
            }
            5 => self.take(4).map(|_| FieldValue::Fixed32)?,
            _ => return Err(MalformedMessage),
        };
        Ok(Some((number, value)))
    }
}

/// Returns the last bytes field with that number, as decoders do.
#[must_use]
pub fn bytes_field(message: &[u8], number: u32) -> Option<&[u8]> {
    let (mut fields, mut found) = (FieldReader::new(message), None);
    while let Ok(Some((n, value))) = fields.next_field() {
        if let (true, FieldValue::Bytes(bytes)) = (n == number, value) {
            found = Some(bytes);
        }
    }
    found
}

/// Returns the string at the end of a path of field numbers. Returns `None` if it is missing or empty.
#[must_use]
pub fn text_at<'a>(message: &'a [u8], path: &[u32]) -> Option<&'a str> {
    let mut at = message;
    for number in path {
        at = bytes_field(at, *number)?;
    }
    std::str::from_utf8(at).ok().filter(|text| !path.is_empty() && !text.is_empty())
}

/// Returns every string at the end of a path of field numbers, in the order of the message. A path may lead through
/// repeated fields. Empty strings and strings that are not UTF-8 are left out; an empty path finds nothing.
#[must_use]
pub fn texts_at<'a>(message: &'a [u8], path: &[u32]) -> Vec<&'a str> {
    let Some((number, rest)) = path.split_first() else { return Vec::new() };
    let (mut fields, mut texts) = (FieldReader::new(message), Vec::new());
    while let Ok(Some((n, value))) = fields.next_field() {
        match value {
            FieldValue::Bytes(bytes) if n == *number && rest.is_empty() => {
                texts.extend(std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty()));
            }
            FieldValue::Bytes(bytes) if n == *number => texts.extend(texts_at(bytes, rest)),
            FieldValue::Bytes(_)
            | FieldValue::Varint(_)
            | FieldValue::Fixed32
            | FieldValue::Fixed64 => {}
        }
    }
    texts
}

/// Whether a number or flag field with that number is present and not zero. The last one counts.
#[must_use]
pub fn is_flag_set(message: &[u8], number: u32) -> bool {
    let (mut fields, mut set) = (FieldReader::new(message), false);
    while let Ok(Some((n, value))) = fields.next_field() {
        if let (true, FieldValue::Varint(value)) = (n == number, value) {
            set = value != 0;
        }
    }
    set
}

/// Whether there is a field with that number.
#[must_use]
pub fn has_field(message: &[u8], number: u32) -> bool {
    let mut fields = FieldReader::new(message);
    while let Ok(Some((n, _))) = fields.next_field() {
        if n == number {
            return true;
        }
    }
    false
}

/// Appends a bytes field.
pub fn put_bytes(to: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(to, u64::from(number) << 3 | 2);
    put_varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

/// Appends a number field.
pub fn put_number(to: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(to, u64::from(number) << 3);
    put_varint(to, value);
}

fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    to.push(u8::try_from(value).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_string_at_a_path_is_found_and_an_empty_path_matches_nothing() {
        // Field 1 twice, each a message with the strings `a` and `b` in its field 2; then field 1 with no field 2.
        let message = [0x0a, 3, 0x12, 1, b'a', 0x0a, 3, 0x12, 1, b'b', 0x0a, 0];
        assert_eq!(texts_at(&message, &[1, 2]), ["a", "b"]);
        assert_eq!(texts_at(&message[2..5], &[2]), ["a"]);
        assert!(texts_at(&message, &[]).is_empty() && texts_at(&message, &[2]).is_empty());
    }
}
