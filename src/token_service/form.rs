//! Parses a request: a form, and the client's credential in it or in `authorization`.
//!
//! Parsing is strict, so that no proxy can interpret a request differently: each parameter once, escapes complete.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Uri};

use super::answer::OAuthError;
use crate::secret::Secret;

/// The parameters of a form.
pub(super) struct Form(Vec<(String, Secret)>);

impl Form {
    /// Parses a body, which must have the content type of a form. The URL, which proxies log, must have no parameters.
    pub(super) fn parse(uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Result<Self, OAuthError> {
        if uri.query().is_some() {
            let why = "parameters belong in the body, not in the URL";
            return Err(OAuthError::invalid_request(why));
        }
        let content = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let kind = content.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if !kind.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
            return Err(OAuthError::invalid_request(
                "the body must be `application/x-www-form-urlencoded`",
            ));
        }
        let mut found: Vec<(String, Secret)> = Vec::new();
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let (name, value) = (&pair[..at], pair.get(at + 1..).unwrap_or_default());
            let read = decode(name).zip(decode(value));
            let (name, value) = read.ok_or_else(|| {
                OAuthError::invalid_request("the body is not a valid form in UTF-8")
            })?;
            if name.contains('\0') || value.contains('\0') {
                return Err(OAuthError::invalid_request(
                    "a parameter must not contain NUL (U+0000)",
                ));
            }
            if found.iter().any(|(known, _)| *known == name) {
                // Not with its name: a secret that is sent without `=` is parsed as a name.
                return Err(OAuthError::invalid_request("a parameter is repeated: send each once"));
            }
            found.push((name, Secret::new(value)));
        }
        Ok(Self(found))
    }

    /// The value of a parameter; an empty value counts as missing.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name)?;
        Some(found.1.expose()).filter(|value| !value.is_empty())
    }

    /// The value of a required parameter.
    pub(super) fn require(&self, name: &str) -> Result<&str, OAuthError> {
        self.get(name).ok_or_else(|| OAuthError::invalid_request(format!("`{name}` is missing")))
    }
}

/// How a client authenticates.
#[derive(Debug)]
pub(super) enum Credential {
    /// Not authenticated.
    None,
    /// A secret in the form.
    Form(Secret),
    /// A secret in the header.
    Basic(Secret),
}

/// Returns the only credential of a request (T19). The client id is ignored: the key identifies the client.
pub(super) fn credential(headers: &HeaderMap, form: &Form) -> Result<Credential, OAuthError> {
    let in_form = form.get("client_secret");
    let mut in_headers = headers.get_all(AUTHORIZATION).iter();
    match (in_headers.next(), in_headers.next(), in_form) {
        (None, _, None) => Ok(Credential::None),
        (None, _, Some(secret)) => Ok(Credential::Form(Secret::new(secret))),
        (Some(header), None, None) => {
            basic(header).map(Credential::Basic).ok_or_else(|| OAuthError::invalid_client(true))
        }
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            let why = "send one client credential, in the form or in `authorization`";
            Err(OAuthError::invalid_request(why))
        }
    }
}

/// Returns the password of `Basic`, whose two parts are form-encoded.
fn basic(value: &HeaderValue) -> Option<Secret> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    let bytes = STANDARD.decode(encoded).ok()?;
    let at = bytes.iter().position(|byte| *byte == b':')?;
    let secret = decode(&bytes[at + 1..]).filter(|secret| !secret.is_empty())?;
    scheme.eq_ignore_ascii_case("basic").then(|| Secret::new(secret))
}

/// Decodes `+` as a space and `%` with two hexadecimal digits.
fn decode(bytes: &[u8]) -> Option<String> {
    let mut text = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => text.push(b' '),
            b'%' => {
                let (digits, after) = rest.split_first_chunk::<2>()?;
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let value = digit(digits[0])? * 16 + digit(digits[1])?;
                text.push(u8::try_from(value).ok()?);
                rest = after;
            }
            plain => text.push(*plain),
        }
    }
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(body: &str) -> Result<Form, OAuthError> {
        let mut headers = HeaderMap::new();
        let kind = "Application/x-www-form-urlencoded; charset=utf-8";
        headers.insert(CONTENT_TYPE, kind.parse().unwrap());
        Form::parse(&Uri::from_static("/token"), &headers, body.as_bytes())
    }

    #[test]
    fn a_form_with_duplicate_fields_or_invalid_encoding_is_refused() {
        let read = form("a=1+2%26&b%3D=%C3%9F&&c&d=&e==").unwrap();
        for (name, value) in [
            ("a", Some("1 2&")),
            ("b=", Some("ß")),
            ("c", None),
            ("d", None),
            ("e", Some("=")),
            ("f", None),
        ] {
            assert_eq!(read.get(name), value, "{name}");
        }
        for bad in
            ["a=1&a=1", "a=1&%61=2", "a&a", "a=%", "a=%1", "a=%zz", "a=%ff", "%ff=1", "a=%00"]
        {
            assert!(form(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parameters_are_accepted_only_in_a_body_of_the_content_type_of_a_form() {
        let parse = |uri: &'static str, kind: Option<&'static str>| {
            let kind = kind.map(|kind| (CONTENT_TYPE, HeaderValue::from_static(kind)));
            Form::parse(&Uri::from_static(uri), &kind.into_iter().collect(), b"a=1").is_ok()
        };
        let form = "application/x-www-form-urlencoded";
        assert!(parse("/token", Some(form)));
        assert!(!parse("/token", None));
        assert!(!parse("/token", Some("application/json")));
        assert!(!parse("/token?b=2", Some(form)));
        assert!(!parse("/token?", Some(form)));
    }

    #[test]
    fn exactly_one_client_credential_is_accepted() {
        let read = |header: &[&str], body: &str| {
            let mut headers = HeaderMap::new();
            for value in header {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            match credential(&headers, &form(body).unwrap()) {
                Ok(Credential::None) => "none".to_owned(),
                Ok(Credential::Form(secret)) => format!("form {}", secret.expose()),
                Ok(Credential::Basic(secret)) => format!("basic {}", secret.expose()),
                Err(_) => "refused".to_owned(),
            }
        };
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert_eq!(read(&[], "a=1"), "none");
        assert_eq!(read(&[], "client_secret=sg_x&client_id=y"), "form sg_x");
        assert_eq!(read(&[&basic("openshell-cli:sg%5Fx")], "a=1"), "basic sg_x");
        assert_eq!(read(&[&basic(":a:b").replace("Basic", "bASIC")], ""), "basic a:b");
        let bad = [
            basic("id:"),
            basic("id"),
            basic("id:%"),
            "Bearer sg_x".to_owned(),
            "Basic ?".to_owned(),
        ];
        for bad in bad {
            assert_eq!(read(&[&bad], ""), "refused", "{bad}");
        }
        assert_eq!(read(&[&basic("a:b")], "client_secret=b"), "refused");
        assert_eq!(read(&[&basic("a:b"), &basic("a:b")], ""), "refused");
    }
}
