//! Rewrites the only responses that are modified.
//!
//! `CreateSshSession` returns the address to connect to, which must be that of Shoreguard: a client that connected to
//! the gateway's own address would bypass every check. A service is reached at the gateway, but stock clients replace
//! the port in its address by the port that they call, which is Shoreguard's. They leave a text unchanged that is not a
//! URL, so the address becomes a text that names the gateway.

use crate::access::policy::UpstreamPolicy;
use crate::net::public_address::PublicAddress;
use crate::pb::wire::{self, FieldReader, FieldValue};

/// Maximum size of a response with an address to connect to, in bytes.
const ADDRESS_BYTES_MAX: usize = 64 << 10;
/// Maximum size of a response with addresses of services, in bytes: a page of them.
const SERVICES_BYTES_MAX: usize = 1 << 20;

/// Returns the maximum size of a response that is rewritten, in bytes.
pub(crate) fn answer_bytes_max(guard: &UpstreamPolicy) -> usize {
    if guard.answers_address { ADDRESS_BYTES_MAX } else { SERVICES_BYTES_MAX }
}

/// Rewrites the response of a method as its option requires. Returns `None` if it cannot be parsed.
pub(crate) fn rewrite(
    guard: &UpstreamPolicy,
    gateway: &str,
    public: &PublicAddress,
    answer: &[u8],
) -> Option<Vec<u8>> {
    if guard.answers_address {
        return replace_address(public, answer);
    }
    mark_service_urls(guard.service_url_path, gateway, answer)
}

/// Adds to each address of a service that it is reached at the gateway. All other fields are unchanged.
pub(crate) fn mark_service_urls(path: &[u32], gateway: &str, message: &[u8]) -> Option<Vec<u8>> {
    let Some((wanted, rest)) = path.split_first() else { return Some(message.to_vec()) };
    let mut marked = Vec::with_capacity(message.len() + 64);
    let mut fields = FieldReader::new(message);
    loop {
        let before = fields.rest;
        let Some((number, value)) = fields.next_field().ok()? else { break };
        match value {
            FieldValue::Bytes(inner) if number == *wanted && !rest.is_empty() => {
                wire::put_bytes(&mut marked, number, &mark_service_urls(rest, gateway, inner)?);
            }
            FieldValue::Bytes(url) if number == *wanted && !url.is_empty() => {
                let url = std::str::from_utf8(url).ok()?;
                let text = format!("at gateway `{gateway}`, not at Shoreguard: {url}");
                wire::put_bytes(&mut marked, number, text.as_bytes());
            }
            FieldValue::Bytes(_)
            | FieldValue::Varint(_)
            | FieldValue::Fixed64
            | FieldValue::Fixed32 => {
                let length = before.len() - fields.rest.len();
                marked.extend_from_slice(&before[..length]);
            }
        }
    }
    Some(marked)
}

/// Fields of `CreateSshSessionResponse`, the same in both generations.
mod field {
    pub(super) const HOST: u32 = 3;
    pub(super) const PORT: u32 = 4;
    pub(super) const SCHEME: u32 = 5;
}

/// Replaces the gateway's address with Shoreguard's and leaves all other fields unchanged. Returns `None` if the
/// response cannot be parsed.
fn replace_address(address: &PublicAddress, answer: &[u8]) -> Option<Vec<u8>> {
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
        let rewritten = replace_address(&ours, &bytes).unwrap();
        assert_eq!(wire::bytes_field(&rewritten, 900), Some(&b"new"[..]));
        assert!(!String::from_utf8_lossy(&rewritten).contains("internal"));
        let expected = Session {
            gateway_host: "sg.example.com".to_owned(),
            gateway_port: 443,
            gateway_scheme: "https".to_owned(),
            ..theirs
        };
        assert_eq!(Session::decode(rewritten.as_slice()).unwrap(), expected);
        assert!(replace_address(&ours, &[0xff]).is_none());
    }

    #[test]
    fn an_ipv6_address_is_written_without_brackets() {
        let ours = PublicAddress::parse("http://[::1]:8443").unwrap();
        assert_eq!((ours.host.as_str(), ours.port), ("::1", 8443));
    }

    #[test]
    fn addresses_of_services_say_that_they_are_reached_at_the_gateway() {
        use crate::pb::v0_1::openshell::v1 as new;
        let theirs = "http://default--one--web.openshell.localhost:8080/";
        let ours = "at gateway `edge`, not at Shoreguard: \
                    http://default--one--web.openshell.localhost:8080/";
        let service = |url: &str| new::ServiceEndpointResponse {
            endpoint: Some(new::ServiceEndpoint { target_port: 80, ..Default::default() }),
            url: url.to_owned(),
        };
        let marked = mark_service_urls(&[2], "edge", &service(theirs).encode_to_vec()).unwrap();
        assert_eq!(new::ServiceEndpointResponse::decode(marked.as_slice()).unwrap(), service(ours));
        let list = |url| new::ListServicesResponse {
            services: vec![service(url), service(""), service(url)],
            next_page_token: "next".to_owned(),
        };
        let marked = mark_service_urls(&[1, 2], "edge", &list(theirs).encode_to_vec()).unwrap();
        assert_eq!(new::ListServicesResponse::decode(marked.as_slice()).unwrap(), list(ours));
        let sandbox = |url: &str| new::SandboxResponse {
            sandbox: None,
            service_urls: [("web".to_owned(), url.to_owned())].into(),
        };
        let marked = mark_service_urls(&[2, 2], "edge", &sandbox(theirs).encode_to_vec()).unwrap();
        assert_eq!(new::SandboxResponse::decode(marked.as_slice()).unwrap(), sandbox(ours));
        assert!(mark_service_urls(&[2], "edge", &[0xff]).is_none());
    }
}
