//! Messages that no client sends. They are built from the descriptors as encoded bytes, so that strings need not be
//! valid UTF-8.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// Maximum nesting of messages.
const DEPTH_MAX: u32 = 4;
/// Length of the longest string.
const LONG_BYTES: usize = 1 << 20;

/// A pseudo-random generator that returns the same numbers for the same seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    /// Returns true once in `n` times on average.
    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

pub(super) fn put_key(out: &mut Vec<u8>, number: u32, wire: u32) {
    put_varint(out, u64::from(number << 3 | wire));
}

/// Appends a length-delimited field: a string or a message.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_key(out, number, 2);
    put_varint(out, u64::try_from(value.len()).unwrap());
    out.extend_from_slice(value);
}

/// Returns a message of a type: mostly valid, so that it passes the first checks, with some hostile parts.
pub(super) fn random_message(
    of: &MessageDescriptor,
    random: &mut Random,
    gateway: &str,
) -> Vec<u8> {
    let mut out = Vec::new();
    put_fields(&mut out, of, random, gateway, 0);
    match random.below(40) {
        // Encoded twice: each singular field occurs twice.
        0 => out.extend_from_within(..),
        // Truncated.
        1 => out.truncate(out.len() / 2),
        // Unknown fields: text, a group, the largest field number.
        2 => put_bytes(&mut out, 99_999, b"un\0known"),
        3 => put_key(&mut out, 7_777, 3),
        4 => {
            put_key(&mut out, (1 << 29) - 1, 0);
            put_varint(&mut out, u64::MAX);
        }
        // Bytes that are not a valid message.
        5 => out.extend_from_slice(&[0xff; 16]),
        _ => {}
    }
    out
}

fn put_fields(
    out: &mut Vec<u8>,
    of: &MessageDescriptor,
    random: &mut Random,
    gateway: &str,
    depth: u32,
) {
    for field in of.fields() {
        let one_of_oneof = field.containing_oneof().map_or(1, |oneof| oneof.fields().count());
        if random.one_in(4) || (one_of_oneof > 1 && !random.one_in(one_of_oneof)) {
            continue;
        }
        let times = if field.is_list() || field.is_map() { random.below(3) } else { 1 };
        let times = if random.one_in(60) { times + 1 } else { times };
        for _ in 0..times {
            put_field(out, &field, random, gateway, depth);
        }
    }
}

fn put_field(
    out: &mut Vec<u8>,
    field: &FieldDescriptor,
    random: &mut Random,
    gateway: &str,
    depth: u32,
) {
    let number = field.number();
    if random.one_in(100) {
        // Another wire type than that of the field.
        put_key(out, number, random.pick(&[0, 1, 2, 5]));
        return out.extend_from_slice(&[0; 8]);
    }
    match field.kind() {
        Kind::String => put_bytes(out, number, &text(field.name(), random, gateway)),
        Kind::Bytes => put_bytes(out, number, random.pick(&[&b""[..], b"\0\0", b"{}", b"x\xff"])),
        Kind::Message(inner) if depth < DEPTH_MAX => {
            let mut nested = Vec::new();
            put_fields(&mut nested, &inner, random, gateway, depth + 1);
            put_bytes(out, number, &nested);
        }
        Kind::Message(_) => put_bytes(out, number, &[]),
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => {
            put_key(out, number, 1);
            let value = random.pick(&[0.0, -1.0, f64::NAN, f64::INFINITY, f64::MAX]);
            out.extend_from_slice(&value.to_le_bytes());
        }
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => {
            put_key(out, number, 5);
            out.extend_from_slice(&random.pick(&[0.0, -1.0, f32::NAN, f32::MAX]).to_le_bytes());
        }
        Kind::Enum(kind) if !random.one_in(6) => {
            put_key(out, number, 0);
            let values: Vec<_> = kind.values().map(|value| value.number()).collect();
            put_varint(out, i64::from(random.pick(&values)).cast_unsigned());
        }
        Kind::Bool
        | Kind::Enum(_)
        | Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64 => {
            put_key(out, number, 0);
            let extremes = [0, 1, 2, 60, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 63, u64::MAX];
            put_varint(out, random.pick(&extremes));
        }
    }
}

/// Returns text for a field: a value that exists, or a hostile one.
fn text(field: &str, random: &mut Random, gateway: &str) -> Vec<u8> {
    let known: &[&str] = match field {
        "gateway" => &[gateway],
        "name" | "group" | "sandbox" | "sandbox_name" | "service_principal" => &["box"],
        "workspace" => &["", "default"],
        "request_id" => &[""],
        "email" | "user" => &["box@example.com"],
        "endpoint" | "target" => &["127.0.0.1:1", "localhost:1"],
        "update_mask" | "paths" => &["labels", "description", "role", "name"],
        _ => &["", "a", "1", "box", "default", "0b0f1d9e-64d7-4c53-9d1e-6a3ff2a3c111"],
    };
    if !random.one_in(3) {
        return random.pick(known).into();
    }
    if random.one_in(60) {
        return vec![b'x'; LONG_BYTES];
    }
    let hostile: [&[u8]; 22] = [
        b"",
        b"\0",
        b"a\0b",
        b" ",
        b"\n\r\t\x1b[2J",
        b"\x01\x7f",
        b"\xff\xfe",
        // A surrogate, and NUL encoded in two bytes.
        b"\xed\xa0\x80",
        b"\xc0\x80",
        "\u{202e}gpj.exe".as_bytes(),
        "\u{feff}\u{200b}".as_bytes(),
        "\u{10ffff}\u{fffe}".as_bytes(),
        b"../../../etc/passwd",
        b"' OR 1=1; --",
        b"%_\\",
        b"\\u0000",
        b"-9223372036854775809",
        b"1e999",
        b"{\"a\":[",
        b"http://[::1",
        &[b'n'; 254],
        &[b'l'; 5_000],
    ];
    random.pick(&hostile).into()
}

/// Returns one message per string field of a type, with the path of the field, down to three levels of nesting and
/// including map keys. Each message contains only this string, with a NUL.
pub(super) fn with_nul(of: &MessageDescriptor) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    collect_nul(of, 3, &mut all);
    all
}

fn collect_nul(of: &MessageDescriptor, levels: u32, all: &mut Vec<(String, Vec<u8>)>) {
    for field in of.fields() {
        let mut put = |path: String, value: &[u8]| {
            let mut out = Vec::new();
            put_bytes(&mut out, field.number(), value);
            all.push((path, out));
        };
        let kind = field.kind();
        if kind == Kind::String {
            put(field.name().to_owned(), b"a\0b");
        }
        let Some(inner) = kind.as_message().filter(|_| levels > 0) else { continue };
        let mut below = Vec::new();
        collect_nul(inner, levels - 1, &mut below);
        for (path, message) in below {
            put(format!("{}.{path}", field.name()), &message);
        }
    }
}
