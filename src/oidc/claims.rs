//! Claims of a token, and the roles and rules that follow from them. Pure functions.
//!
//! Invariants
//! - a path that matches two claims matches neither: a user who can add a claim must not decide which one counts;
//! - a condition on a missing claim is not met.

use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::config::{OidcProvider, OidcRule};
use crate::role::Role;

/// Claims of a verified token.
#[derive(Debug, Clone)]
pub struct Claims {
    all: Map<String, Value>,
    pub(super) subject: String,
    pub(super) audiences: Vec<String>,
    pub(super) expires_at: Timestamp,
}

impl Claims {
    pub(super) fn new(
        all: Map<String, Value>,
        subject: String,
        audiences: Vec<String>,
        expires_at: Timestamp,
    ) -> Self {
        Self { all, subject, audiences, expires_at }
    }

    /// Returns the subject: the issuer's id of the user.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Returns when the token expires.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Returns the e-mail address if the issuer has verified it. No other claim replaces it (T11).
    #[must_use]
    pub fn verified_email(&self) -> Option<&str> {
        let verified = self.all.get("email_verified") == Some(&Value::Bool(true));
        self.all.get("email").and_then(Value::as_str).filter(|_| verified)
    }

    /// Returns the highest role that the claims grant, at most the provider's `max_role`, or `None` if they grant no
    /// role.
    #[must_use]
    pub fn role(&self, provider: &OidcProvider) -> Option<Role> {
        let values = claim_texts(&self.all, provider.role_claim.as_deref()?);
        let given = values.iter().filter_map(|value| provider.roles.get(value)).max();
        given.map(|role| provider.max_role.min(*role))
    }

    /// Whether the token is for this audience.
    #[must_use]
    pub fn is_for(&self, audience: &str) -> bool {
        self.audiences.iter().any(|given| given == audience)
    }

    /// Returns the first rule that matches.
    #[must_use]
    pub fn first_matching_rule<'a>(&self, provider: &'a OidcProvider) -> Option<&'a OidcRule> {
        provider.rules.iter().find(|rule| {
            let audience = rule.audience.as_ref().or(provider.audience.as_ref());
            audience.is_some_and(|audience| self.is_for(audience)) && self.satisfies(rule)
        })
    }

    fn satisfies(&self, rule: &OidcRule) -> bool {
        let holds = |path: &str, wanted: &[String]| {
            let given = claim_texts(&self.all, path);
            wanted.iter().any(|wanted| given.iter().any(|given| matches_pattern(wanted, given)))
        };
        // A rule without conditions would match every token; the configuration rejects it as well.
        !rule.conditions.is_empty()
            && rule.conditions.iter().all(|(path, condition)| holds(path, condition.values()))
    }
}

fn matches_pattern(wanted: &str, given: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(beginning) => given.starts_with(beginning),
        None => given == wanted,
    }
}

/// Returns the claim at a path as texts: a single value, or the items of a list.
fn claim_texts(claims: &Map<String, Value>, path: &str) -> Vec<String> {
    let found = claims_at(claims, path);
    let [value] = found[..] else { return Vec::new() };
    match value {
        Value::Array(items) => items.iter().filter_map(value_text).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            value_text(value).into_iter().collect()
        }
    }
}

fn value_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Returns all claims that a path can refer to, since names of claims may contain dots.
fn claims_at<'a>(claims: &'a Map<String, Value>, path: &str) -> Vec<&'a Value> {
    let mut found: Vec<&Value> = claims.get(path).into_iter().collect();
    for (dot, _) in path.match_indices('.') {
        if let Some(Value::Object(inner)) = claims.get(&path[..dot]) {
            found.extend(claims_at(inner, &path[dot + 1..]));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Config;

    fn claims(all: Value) -> Claims {
        let Value::Object(all) = all else { panic!("claims are an object") };
        Claims::new(all, "sub".to_owned(), vec!["api".to_owned()], Timestamp::EPOCH)
    }

    fn provider(more: &str) -> OidcProvider {
        let text = format!(
            "[[oidc.providers]]\nname = 'a'\nissuer = 'https://a.example'\nclient_id = 'c'\n\
             audience = 'api'\n{more}"
        );
        Config::from_toml(&text).unwrap().oidc.providers.remove(0)
    }

    #[test]
    fn the_highest_role_of_a_string_or_list_claim_at_any_depth_applies() {
        let roles = "role_claim = 'realm.access.roles'\nmax_role = 'operator'\n\
                     roles = { ops = 'operator', all = 'viewer', out = 'none' }";
        let provider = provider(roles);
        let role = |all: Value| claims(all).role(&provider);
        assert_eq!(
            role(json!({ "realm": { "access": { "roles": "ops" } } })),
            Some(Role::Operator)
        );
        let list = json!({ "realm": { "access": { "roles": ["all", 3, "ops", null] } } });
        assert_eq!(role(list), Some(Role::Operator));
        assert_eq!(role(json!({ "realm.access.roles": ["all"] })), Some(Role::Viewer));
        assert_eq!(role(json!({ "realm.access": { "roles": "out" } })), Some(Role::None));
        for none in [
            json!({}),
            json!({ "realm": "ops" }),
            json!({ "realm": { "access": { "roles": { "ops": true } } } }),
            json!({ "realm": { "access": { "roles": ["Ops", "ops "] } } }),
            // With two matching claims, neither counts.
            json!({ "realm": { "access": { "roles": "all" } }, "realm.access.roles": "ops" }),
        ] {
            assert_eq!(role(none.clone()), None, "{none}");
        }
    }

    #[test]
    fn t11_only_a_verified_email_is_used() {
        let email = |all: Value| claims(all).verified_email().map(str::to_owned);
        assert_eq!(
            email(json!({ "email": "a@b.example", "email_verified": true })).as_deref(),
            Some("a@b.example")
        );
        for none in [
            json!({ "email": "a@b.example" }),
            json!({ "email": "a@b.example", "email_verified": false }),
            json!({ "email": "a@b.example", "email_verified": "true" }),
            json!({ "email": ["a@b.example"], "email_verified": true }),
            json!({ "preferred_username": "a@b.example", "email_verified": true }),
        ] {
            assert_eq!(email(none.clone()), None, "{none}");
        }
    }

    #[test]
    fn the_first_rule_whose_conditions_all_match_applies() {
        let provider = provider(
            "[[oidc.providers.rules]]\nname = 'main'\nrole = 'operator'\n\
             conditions = { repository = 'acme/infra', ref = ['refs/heads/main', 'refs/tags/v*'] }\n\
             [[oidc.providers.rules]]\nname = 'any'\nrole = 'viewer'\n\
             conditions = { repository = 'acme/*' }\n\
             [[oidc.providers.rules]]\nname = 'other'\naudience = 'else'\nrole = 'viewer'\n\
             conditions = { protected = 'true' }",
        );
        let rule =
            |all: Value| claims(all).first_matching_rule(&provider).map(|rule| rule.name.as_str());
        let infra = |at: &str| rule(json!({ "repository": "acme/infra", "ref": at }));
        assert_eq!(infra("refs/heads/main"), Some("main"));
        assert_eq!(infra("refs/tags/v1.2"), Some("main"));
        assert_eq!(infra("refs/heads/main2"), Some("any"));
        assert_eq!(rule(json!({ "repository": ["else/x", "acme/y"] })), Some("any"));
        assert_eq!(rule(json!({ "repository": "acme" })), None);
        assert_eq!(rule(json!({ "repository": "evil/acme/infra" })), None);
        assert_eq!(rule(json!({ "ref": "refs/heads/main" })), None);
        assert_eq!(rule(json!({ "protected": true })), None, "it is not for that audience");
    }
}
