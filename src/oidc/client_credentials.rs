//! Requests tokens for Shoreguard itself: the client credentials grant (RFC 6749, section 4.4).
//!
//! Invariants
//! - the response of a token endpoint is bounded, and its token is accepted only if it is valid in a header;
//! - an error contains at most the host and the status: never the secret or the token.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode};
use serde::Deserialize;

use super::flow::{form_encode, percent_encode};
use crate::net::http::{Client, RequestLimits};
use crate::secret::Secret;

/// Maximum size of the response of a token endpoint, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Maximum length of a token, in characters, since it is sent in a header.
const TOKEN_CHARACTERS_MAX: usize = 16 * 1024;
/// Lifetime of a token if the endpoint does not report it (RFC 6749 leaves it open).
const DEFAULT_LIFETIME: Duration = Duration::from_mins(5);
/// Maximum lifetime of a token, even if the endpoint reports a longer one.
const LIFETIME_MAX: Duration = Duration::from_hours(24);

/// A request for a token.
#[derive(Debug)]
pub struct TokenRequest {
    /// The token endpoint.
    pub token_url: String,
    /// Client id.
    pub client_id: String,
    /// Client secret, sent by HTTP Basic.
    pub client_secret: Secret,
    /// Requested scope; `None` omits it.
    pub scope: Option<String>,
    /// Requested audience; `None` omits it.
    pub audience: Option<String>,
}

/// A token, as a header.
#[derive(Debug, Clone)]
pub struct BearerToken {
    /// `authorization`, marked sensitive.
    pub header: HeaderValue,
    /// Lifetime from now on.
    pub lifetime: Duration,
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    #[serde(default)]
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Option<serde_json::Value>,
}

/// Requests a token. The error is for the log.
pub async fn fetch_token(
    client: &Client,
    request: &TokenRequest,
    deadline: Duration,
) -> Result<BearerToken, String> {
    let request = build_request(request).map_err(|error| error.to_string())?;
    let limits = RequestLimits { deadline, answer_bytes_max: ANSWER_BYTES_MAX };
    let response = client.send(request, limits).await.map_err(|error| error.to_string())?;
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(format!("the token endpoint answers with status {}", head.status.as_u16()));
    }
    parse_response(&body).ok_or_else(|| "the token endpoint returned no bearer token".to_owned())
}

fn build_request(request: &TokenRequest) -> Result<Request<Bytes>, http::Error> {
    let mut fields = vec![("grant_type", "client_credentials")];
    fields.extend(request.scope.as_deref().map(|scope| ("scope", scope)));
    fields.extend(request.audience.as_deref().map(|audience| ("audience", audience)));
    let pair = format!(
        "{}:{}",
        percent_encode(&request.client_id),
        percent_encode(request.client_secret.expose())
    );
    Request::post(&request.token_url)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)))
        .body(Bytes::from(form_encode(&fields)))
}

fn parse_response(body: &[u8]) -> Option<BearerToken> {
    let answer: TokenResponse = serde_json::from_slice(body).ok()?;
    let bearer = answer.token_type.is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
    let token = answer.access_token;
    let sound = (1..=TOKEN_CHARACTERS_MAX).contains(&token.len())
        && token.bytes().all(|b| b.is_ascii_graphic());
    if !bearer || !sound {
        return None;
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    // Some endpoints send the number as a string.
    let expires_in = answer.expires_in.unwrap_or_default();
    let seconds = expires_in.as_u64().or_else(|| expires_in.as_str()?.parse().ok());
    let lifetime = seconds.map_or(DEFAULT_LIFETIME, Duration::from_secs).min(LIFETIME_MAX);
    Some(BearerToken { header, lifetime })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_response_must_hold_a_bearer_token() {
        let lifetime =
            |text: &str| parse_response(text.as_bytes()).map(|token| token.lifetime.as_secs());
        assert_eq!(
            lifetime(r#"{"access_token":"a","token_type":"Bearer","expires_in":60}"#),
            Some(60)
        );
        assert_eq!(
            lifetime(r#"{"access_token":"a","token_type":"bearer","expires_in":"90"}"#),
            Some(90)
        );
        assert_eq!(lifetime(r#"{"access_token":"a"}"#), Some(300));
        assert_eq!(lifetime(r#"{"access_token":"a","expires_in":99999999}"#), Some(86_400));
        for none in [
            "",
            "{}",
            r#"{"access_token":""}"#,
            r#"{"access_token":"a\nb"}"#,
            r#"{"access_token":"a","token_type":"mac"}"#,
        ] {
            assert!(parse_response(none.as_bytes()).is_none(), "{none}");
        }
    }

    #[test]
    fn a_token_request_sends_client_credentials_grant_type_and_scope() {
        let request = TokenRequest {
            token_url: "https://id.example.com/token".to_owned(),
            client_id: "us & them".to_owned(),
            client_secret: Secret::new("a:b"),
            scope: Some("openid gateway".to_owned()),
            audience: None,
        };
        let made = build_request(&request).unwrap();
        let shown = STANDARD.encode("us%20%26%20them:a%3Ab");
        assert_eq!(made.headers()[AUTHORIZATION], format!("Basic {shown}"));
        assert_eq!(made.body(), "grant_type=client_credentials&scope=openid%20gateway");
    }
}
