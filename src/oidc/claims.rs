//! Claims of a token, and the roles and rules that follow from them. Pure functions.
//!
//! Invariants
//! - a path that matches two claims matches neither: a user who can add a claim must not decide which one counts;
//! - a condition on a missing claim is not met;
//! - a claim that the issuer left out of the token because of its size is unknown, not missing: it decides nothing, so
//!   that it neither lowers a role nor selects another rule.

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

    /// Returns the e-mail address if the issuer has verified it, or if it states nothing about it and the configuration
    /// states that the issuer verifies all addresses. No other claim replaces it (T11).
    ///
    /// # Errors
    /// Why no address counts, for the log.
    pub fn verified_email(&self, provider: &OidcProvider) -> Result<&str, &'static str> {
        let Some(email) = self.all.get("email").and_then(Value::as_str) else {
            return Err("it has no e-mail address, and no account is linked to it");
        };
        match self.all.get("email_verified") {
            Some(Value::Bool(true)) => Ok(email),
            None if provider.emails_verified => Ok(email),
            None => Err("it has no `email_verified`, and no account is linked to it: set \
                         `emails_verified` of the provider if the issuer verifies every address"),
            Some(_) => Err("its address is not verified, and no account is linked to it"),
        }
    }

    /// Whether the issuer left a claim out of the token because of its size. `OpenID` Connect Core 1.0, section 5.6.2,
    /// names such claims in `_claim_names`; Microsoft Entra ID also uses `hasgroups`.
    #[must_use]
    pub fn is_withheld(&self, path: &str) -> bool {
        let listed = self.all.get("_claim_names").and_then(Value::as_object);
        let has_groups = match self.all.get("hasgroups") {
            Some(Value::Bool(has)) => *has,
            Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
            Some(Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_)) | None => {
                false
            }
        };
        let is_named = |name: &str| {
            listed.is_some_and(|listed| listed.contains_key(name))
                || (has_groups && name == "groups")
        };
        let outer = path.match_indices('.').map(|(dot, _)| &path[..dot]);
        claims_at(&self.all, path).is_empty() && outer.chain([path]).any(is_named)
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
    ///
    /// # Errors
    /// Why no rule is selected, for the log: none matches, or a claim that decides about one was withheld.
    pub fn first_matching_rule<'a>(
        &self,
        provider: &'a OidcProvider,
    ) -> Result<&'a OidcRule, &'static str> {
        for rule in &provider.rules {
            let audience = rule.audience.as_ref().or(provider.audience.as_ref());
            if !audience.is_some_and(|audience| self.is_for(audience)) {
                continue;
            }
            match self.compare(rule) {
                RuleFit::Matches => return Ok(rule),
                RuleFit::Differs => {}
                RuleFit::Unknown => {
                    return Err("the issuer left out a claim that a rule needs, as too large");
                }
            }
        }
        Err("no rule matches it")
    }

    fn compare(&self, rule: &OidcRule) -> RuleFit {
        let holds = |path: &str, wanted: &[String]| {
            let given = claim_texts(&self.all, path);
            wanted.iter().any(|wanted| given.iter().any(|given| matches_pattern(wanted, given)))
        };
        // A rule without conditions would match every token; the configuration rejects it as well.
        if rule.conditions.is_empty() {
            return RuleFit::Differs;
        }
        let mut fit = RuleFit::Matches;
        for (path, condition) in &rule.conditions {
            if self.is_withheld(path) {
                fit = RuleFit::Unknown;
            } else if !holds(path, condition.values()) {
                return RuleFit::Differs;
            }
        }
        fit
    }
}

/// Result of the comparison of a token with a rule.
enum RuleFit {
    /// All conditions hold.
    Matches,
    /// A condition does not hold.
    Differs,
    /// The conditions on claims of the token hold, and other claims were withheld.
    Unknown,
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
        let (strict, trusting) = (provider(""), provider("emails_verified = true"));
        let silent = json!({ "email": "a@b.example", "preferred_username": "a@b.example" });
        let verified = json!({ "email": "a@b.example", "email_verified": true });
        for provider in [&strict, &trusting] {
            assert_eq!(claims(verified.clone()).verified_email(provider), Ok("a@b.example"));
            for none in [
                json!({ "email": "a@b.example", "email_verified": false }),
                json!({ "email": "a@b.example", "email_verified": "true" }),
                json!({ "email": "a@b.example", "email_verified": null }),
                json!({ "email": ["a@b.example"], "email_verified": true }),
                json!({ "email": ["a@b.example"] }),
                json!({ "preferred_username": "a@b.example", "email_verified": true }),
            ] {
                assert!(claims(none.clone()).verified_email(provider).is_err(), "{none}");
            }
        }
        assert_eq!(claims(silent.clone()).verified_email(&trusting), Ok("a@b.example"));
        let why = claims(silent).verified_email(&strict).unwrap_err();
        assert!(why.contains("set `emails_verified`"), "{why}");
    }

    #[test]
    fn a_claim_that_was_left_out_as_too_large_is_withheld() {
        let sources = json!({ "src1": { "endpoint": "https://graph.example/getMemberObjects" } });
        for all in [
            json!({ "_claim_names": { "groups": "src1" }, "_claim_sources": sources }),
            json!({ "hasgroups": true }),
            json!({ "hasgroups": "true" }),
        ] {
            let claims = claims(all.clone());
            assert!(claims.is_withheld("groups") && claims.is_withheld("groups.names"), "{all}");
            assert!(!claims.is_withheld("roles") && !claims.is_withheld("groupset"), "{all}");
        }
        for all in [
            json!({}),
            json!({ "hasgroups": false }),
            json!({ "groups": [], "hasgroups": true }),
            json!({ "_claim_names": "groups" }),
        ] {
            assert!(!claims(all.clone()).is_withheld("groups"), "{all}");
        }
    }

    #[test]
    fn a_withheld_claim_selects_no_later_rule() {
        let provider = provider(
            "[[oidc.providers.rules]]\nname = 'ops'\nrole = 'operator'\n\
             conditions = { groups = 'ops', env = 'prod' }\n\
             [[oidc.providers.rules]]\nname = 'all'\nrole = 'viewer'\n\
             conditions = { env = ['prod', 'dev'] }",
        );
        let rule =
            |all: Value| claims(all).first_matching_rule(&provider).map(|rule| rule.name.clone());
        assert_eq!(rule(json!({ "env": "prod", "groups": ["ops"] })).as_deref(), Ok("ops"));
        assert_eq!(rule(json!({ "env": "prod" })).as_deref(), Ok("all"));
        assert_eq!(rule(json!({ "env": "dev", "hasgroups": true })).as_deref(), Ok("all"));
        assert!(rule(json!({ "env": "prod", "hasgroups": true })).is_err());
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
            |all: Value| claims(all).first_matching_rule(&provider).ok().map(|r| r.name.as_str());
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
