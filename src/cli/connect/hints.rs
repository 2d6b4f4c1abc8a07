//! What to try if a connection fails.

use std::error::Error;
use std::time::Duration;

use super::target::Place;
use crate::error::error_chain;

/// Parts of error messages, in lower case, and what to try.
const HINTS: &[(&[&str], &str)] = &[
    (
        &["certificate expired", "certificate: expired"],
        "the certificate of the server has expired: renew it there, and check the clock of this host",
    ),
    (
        &["not valid yet", "notvalidyet"],
        "the certificate of the server is not valid yet: check the clock of this host",
    ),
    (
        &["not valid for name", "notvalidforname"],
        "the certificate is for another name: use a name in it as the host of the endpoint",
    ),
    (
        &["causedasendentity", "caused as end entity"],
        "the certificate of the server is that of a CA: the server needs a certificate of its own, signed by this CA",
    ),
    (
        &["unknownissuer"],
        "the certificate is self-signed or of a private CA: give the certificate of the CA with `--ca FILE`",
    ),
    (
        &["corrupt message", "invalidcontenttype", "handshake eof"],
        "the server does not use TLS on this port: use `http://` if it is on this host, or another port",
    ),
    (
        &["error reading a body"],
        "the connection was lost during the call: check that the server is running",
    ),
    (
        &["http/2 was not negotiated"],
        "the server does not speak HTTP/2 over TLS: check the port, and the proxy before the server",
    ),
    (
        &["certificaterequired", "certificate required"],
        "the server requires a client certificate, which the command line does not send",
    ),
    (
        &["connection refused"],
        "is the server running? check `--endpoint`, or start one with `shoreguard dev`",
    ),
    (
        &["name or service not known", "failed to lookup", "no such host", "dns error"],
        "check the host of the endpoint",
    ),
    (
        &["timed out", "deadline has elapsed", "no route to host", "network is unreachable"],
        "check the address and port, and the firewalls on the way",
    ),
];

/// Describes why a server cannot be reached, and what to try.
pub(super) fn explain(place: &Place, error: &dyn Error) -> String {
    let chain = error_chain(error);
    let failed = format!("`{}` cannot be reached: {chain}", place.uri);
    match hint(place, &chain) {
        Some(hint) => format!("{failed}\n  try: {hint}"),
        None => failed,
    }
}

/// Describes a server that has accepted the connection, but not completed it within this time.
pub(super) fn explain_silence(place: &Place, limit: Duration) -> String {
    let seconds = limit.as_secs();
    format!(
        "`{}` cannot be reached: no answer within {seconds} s\n  try: check the address and port",
        place.uri
    )
}

fn hint(place: &Place, chain: &str) -> Option<String> {
    let chain = chain.to_ascii_lowercase();
    let known = HINTS.iter().find(|(parts, _)| parts.iter().any(|part| chain.contains(part)));
    if let Some((_, hint)) = known {
        return Some((*hint).to_owned());
    }
    // A server with TLS closes a connection without it, or answers with an alert.
    let with_tls = || format!("use `https://{}` if the server uses TLS", authority(place));
    (!place.is_tls).then(with_tls)
}

fn authority(place: &Place) -> String {
    place.uri.authority().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn common_failures_have_a_hint() {
        let (tls, plain) =
            (Place::parse("https://a:1").unwrap(), Place::parse("http://a:1").unwrap());
        for (place, chain, expected) in [
            (&tls, "invalid peer certificate: UnknownIssuer", "--ca"),
            (&tls, "invalid peer certificate: Expired", "has expired"),
            (
                &tls,
                "invalid peer certificate: certificate expired: verification time",
                "has expired",
            ),
            (
                &tls,
                "invalid peer certificate: certificate not valid for name \"b\"",
                "another name",
            ),
            (&tls, "received corrupt message of type InvalidContentType", "`http://`"),
            (&tls, "tls handshake eof", "`http://`"),
            (&tls, "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", "of its own"),
            (&tls, "HTTP/2 was not negotiated.", "HTTP/2"),
            (&plain, "h2 protocol error: error reading a body from connection", "lost"),
            (&plain, "tcp connect error: Connection refused (os error 111)", "running"),
            (&plain, "dns error: failed to lookup address information", "host of the endpoint"),
            (&plain, "h2 protocol error: frame with invalid size", "`https://a:1`"),
            (&plain, "connection reset", "`https://a:1`"),
        ] {
            let hint = hint(place, chain).unwrap();
            assert!(hint.contains(expected), "{chain}: {hint}");
        }
        assert_eq!(hint(&tls, "connection reset"), None);
    }

    #[test]
    fn the_address_and_the_cause_are_named() {
        let place = Place::parse("https://a:1").unwrap();
        let text = explain(&place, &io::Error::other("it is away"));
        assert_eq!(text, "`https://a:1/` cannot be reached: it is away");
    }
}
