//! The audit log names what a forwarded write touches, for every write of both generations.

use std::time::Instant;

use prost::Message as _;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage, Value};
use shoreguard::access::policy::{AuditMode, UPSTREAM_V0_0, UPSTREAM_V0_1};
use shoreguard::pb::descriptors::{self, Descriptors};
use shoreguard::pb::v1 as sg_v1;
use shoreguard_simulator::Generation;

use super::*;
use crate::support::pause;

/// Sets the string at the end of a path of field numbers.
fn set_at(message: &mut DynamicMessage, path: &[u32], text: &str) {
    let Some((number, rest)) = path.split_first() else { return };
    let field = message.descriptor().get_field(*number).unwrap();
    let Kind::Message(inner) = field.kind() else {
        message.set_field(&field, Value::String(text.to_owned()));
        return;
    };
    let stored = message.get_field(&field).into_owned();
    let mut nested =
        if let Value::Message(nested) = stored { nested } else { DynamicMessage::new(inner) };
    set_at(&mut nested, rest, text);
    let nested = Value::Message(nested);
    let value = if field.is_list() { Value::List(vec![nested]) } else { nested };
    message.set_field(&field, value);
}

fn descriptor(descriptors: &Descriptors, name: &str) -> MessageDescriptor {
    descriptors.pool().get_message_by_name(name).unwrap()
}

/// Waits for the entry of a method. A refusal is recorded after its response was sent.
async fn recorded(
    admin: &Caller,
    list: sg_v1::ListAuditEntriesRequest,
    method: &str,
) -> sg_v1::AuditEntry {
    let begun = Instant::now();
    loop {
        let page = admin.audit().list_audit_entries(list.clone()).await.unwrap().into_inner();
        if let Some(entry) = page.audit_entries.into_iter().find(|entry| entry.method == method) {
            return entry;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "no entry of {method}");
        pause().await;
    }
}

#[test]
fn every_forwarded_write_is_audited_with_its_target() {
    run_on_sqlite(|sg| async move {
        let admin = sg.admin();
        for (name, generation, rows, descriptors) in [
            ("old", Generation::V0_0, UPSTREAM_V0_0, &descriptors::V0_0),
            ("new", Generation::V0_1, UPSTREAM_V0_1, &descriptors::V0_1),
        ] {
            let gateway = start_simulator(generation).await;
            sg.register_gateway(name, gateway.addr()).await;
            for row in rows {
                let Some(guard) = row.policy.as_ref().filter(|g| g.audit == AuditMode::Write)
                else {
                    continue;
                };
                let mut message = DynamicMessage::new(descriptor(descriptors, row.request));
                set_at(&mut message, guard.sandbox_path, "the-box");
                set_at(&mut message, guard.target_path, "the-target");
                let to = [("x-shoreguard-gateway", name)];
                let _ = admin.call_raw(row.path, row.streaming, message.encode_to_vec(), &to).await;
                let list = sg_v1::ListAuditEntriesRequest {
                    action: guard.action.as_str().to_owned(),
                    gateway: name.to_owned(),
                    page_size: 1000,
                    ..Default::default()
                };
                let entry = recorded(&admin, list, row.path).await;
                let named = entry.resource_id.as_str();
                if guard.target_secret {
                    assert!(named.len() == 16 && !named.contains("the-target"), "{entry:?}");
                } else if guard.target_path.is_empty() {
                    assert_eq!(named, "the-box", "{entry:?}");
                } else {
                    assert_eq!(named, "the-target", "{entry:?}");
                }
                assert_eq!(entry.resource_type, guard.action.resource_type(), "{entry:?}");
            }
            gateway.stop().await;
        }
        sg.finish().await;
    });
}

#[test]
fn the_audit_entry_of_a_refused_call_names_the_selected_gateway() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_1).await;
        sg.register_gateway("edge", gateway.addr()).await;
        let admin = sg.admin();
        let viewer = sg.with_token(&admin.create_key("viewer", sg_v1::Role::Viewer).await);
        let row = UPSTREAM_V0_1.iter().find(|row| row.path.ends_with("/DeleteSandbox")).unwrap();
        let to = [("x-shoreguard-gateway", "edge")];
        let refused = viewer.call_raw(row.path, row.streaming, Vec::new(), &to).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        let list =
            sg_v1::ListAuditEntriesRequest { actor: "sp:viewer".to_owned(), ..Default::default() };
        let entry = recorded(&admin, list, row.path).await;
        assert_eq!((entry.action.as_str(), entry.gateway.as_str()), ("sandbox.delete", "edge"));
        gateway.stop().await;
        sg.finish().await;
    });
}
