//! Rewrites the only response that is modified: `CreateSshSession` returns the address to connect to, which must be
//! that of Shoreguard. A client that connected to the gateway's own address would bypass every check.

use crate::net::public_address::PublicAddress;
use crate::pb::wire::{self, FieldReader};

/// Maximum size of a response that is rewritten, in bytes.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Fields of `CreateSshSessionResponse`, the same in both generations.
mod field {
    pub(super) const HOST: u32 = 3;
    pub(super) const PORT: u32 = 4;
    pub(super) const SCHEME: u32 = 5;
}

/// Replaces the gateway's address with Shoreguard's and leaves all other fields unchanged. Returns `None` if the
/// response cannot be parsed.
pub(crate) fn rewrite(address: &PublicAddress, answer: &[u8]) -> Option<Vec<u8>> {
    let mut rewritten = Vec::with_capacity(answer.len() + address.host.len() + 16);
    let mut fields = FieldReader::new(answer);
    loop {
        let before = fields.rest;
        let Some((number, _)) = fields.next_field().ok()? else { break };
        if !matches!(number, field::HOST | field::PORT | field::SCHEME) {
            let length = before.len() - fields.rest.len();
            rewritten.extend_from_slice(&before[..length]);
        }
    }
    wire::put_bytes(&mut rewritten, field::HOST, address.host.as_bytes());
    wire::put_number(&mut rewritten, field::PORT, u64::from(address.port));
    wire::put_bytes(&mut rewritten, field::SCHEME, address.scheme.as_bytes());
    Some(rewritten)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::pb::v0_0::openshell::v1::CreateSshSessionResponse as Session;

    #[test]
    fn the_gateway_address_is_replaced_by_the_public_one_and_the_rest_is_unchanged() {
        let ours = PublicAddress::parse("https://sg.example.com").unwrap();
        let theirs = Session {
            sandbox_id: "x".to_owned(),
            token: "t".to_owned(),
            gateway_host: "gateway.internal".to_owned(),
            gateway_port: 8080,
            gateway_scheme: "http".to_owned(),
            host_key_fingerprint: "f".to_owned(),
            expires_at_ms: 5,
        };
        let mut bytes = theirs.encode_to_vec();
        wire::put_bytes(&mut bytes, 3, b"again.internal");
        wire::put_bytes(&mut bytes, 900, b"new");
        let rewritten = rewrite(&ours, &bytes).unwrap();
        assert_eq!(wire::bytes_field(&rewritten, 900), Some(&b"new"[..]));
        assert!(!String::from_utf8_lossy(&rewritten).contains("internal"));
        let expected = Session {
            gateway_host: "sg.example.com".to_owned(),
            gateway_port: 443,
            gateway_scheme: "https".to_owned(),
            ..theirs
        };
        assert_eq!(Session::decode(rewritten.as_slice()).unwrap(), expected);
        assert!(rewrite(&ours, &[0xff]).is_none());
    }

    #[test]
    fn an_ipv6_address_is_written_without_brackets() {
        let ours = PublicAddress::parse("http://[::1]:8443").unwrap();
        assert_eq!((ours.host.as_str(), ours.port), ("::1", 8443));
    }
}
