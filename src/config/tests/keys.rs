//! Each field of a section is a key, in the order of the file.

use super::super::read::{Section, ValueKind};
use super::super::sources::SECTIONS;
use super::super::{
    Access, Approvals, Audit, Auth, BootHooks, Database, Discovery, Events, Followers, Gateways,
    Keys, Limits, Oidc, Operations, Policies, Sandboxes, Server, Telemetry, TokenService, Webhooks,
};

/// Returns the fields of a section, as serde lists them in the error for an unknown field.
fn fields<S: Section>(nested: &[&str]) -> Vec<String> {
    let mut table = toml::Table::from_iter([("?".to_owned(), toml::Value::Boolean(true))]);
    for key in nested.iter().rev() {
        table = toml::Table::from_iter([((*key).to_owned(), toml::Value::Table(table))]);
    }
    let Err(error) = S::deserialize(table) else { panic!("an unknown field is refused") };
    let known = error.message().split_once("expected").unwrap().1;
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_configuration_field_has_an_environment_variable() {
    let mut found = [
        fields::<Server>(&[]),
        fields::<Database>(&[]),
        fields::<Keys>(&[]),
        fields::<Limits>(&[]),
        fields::<Gateways>(&[]),
        fields::<Discovery>(&[]),
        fields::<Access>(&[]),
        fields::<Auth>(&[]),
        fields::<Oidc>(&[]),
        fields::<TokenService>(&[]),
        fields::<Audit>(&[]),
        fields::<Events>(&[]),
        fields::<Operations>(&[]),
        fields::<Sandboxes>(&[]),
        fields::<Approvals>(&[]),
        fields::<Policies>(&[]),
        fields::<Followers>(&[]),
        fields::<BootHooks>(&[]),
        fields::<Webhooks>(&[]),
        fields::<Telemetry>(&[]),
    ];
    assert_eq!(found.len(), SECTIONS.len());
    let at = found[0].iter().position(|field| field == "tls").unwrap();
    found[0].splice(at..=at, fields::<Server>(&["tls"]).iter().map(|key| format!("tls.{key}")));
    for ((section, keys), fields) in SECTIONS.iter().zip(found) {
        assert!(keys.iter().map(|key| key.path).eq(fields), "{section}");
    }
    let keys = SECTIONS.iter().flat_map(|(_, keys)| *keys);
    assert_eq!(keys.filter(|key| key.kind == ValueKind::Tables).count(), 2);
}
