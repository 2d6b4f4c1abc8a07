//! Lists: reads pages until the limit, and keeps what the pages say about gateways that did not answer.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MethodDescriptor, Value};

use super::cells::text_at;
use super::table::Row;
use crate::cli::CliError;
use crate::cli::connect::Client;

/// Maximum number of items that the server returns in a page.
const PAGE_ITEMS_MAX: u32 = 1_000;
/// Field of fleet lists with the gateways that did not answer.
const UNREACHABLE: &str = "unreachable";

/// How a list continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cursor {
    /// With the token of the next page.
    Token,
    /// After a position.
    Sequence,
}

impl Cursor {
    /// Returns how the list of a method continues. Other methods have no pages.
    pub(super) fn of(method: &MethodDescriptor) -> Option<Self> {
        let takes = |field| method.input().get_field_by_name(field).is_some();
        let returns = |field| method.output().get_field_by_name(field).is_some();
        if takes("page_token") && returns("next_page_token") {
            return Some(Self::Token);
        }
        let is_sequence = takes("after_sequence") && returns("next_after_sequence");
        (is_sequence && returns("more")).then_some(Self::Sequence)
    }

    /// Returns the field of the request that continues the list, and its value for the next page, if one exists.
    fn next(self, page: &DynamicMessage) -> Option<(&'static str, Value)> {
        match self {
            Self::Token => {
                let token = page.get_field_by_name("next_page_token")?.into_owned();
                let is_there = token.as_str().is_some_and(|token| !token.is_empty());
                is_there.then_some(("page_token", token))
            }
            Self::Sequence => {
                let more = page.get_field_by_name("more")?.as_bool()?;
                let next = page.get_field_by_name("next_after_sequence")?.into_owned();
                more.then_some(("after_sequence", next))
            }
        }
    }
}

/// Returns the field of a response that holds the items that a table shows.
pub(super) fn items_field(row: &Row, method: &MethodDescriptor) -> Option<FieldDescriptor> {
    if row.columns.is_empty() || method.is_server_streaming() {
        return None;
    }
    method
        .output()
        .fields()
        .find(|field| field.is_list() && matches!(field.kind(), Kind::Message(_)))
}

/// All pages in one response.
#[derive(Debug)]
pub(super) struct List {
    /// The last response, with the items of all.
    pub(super) response: DynamicMessage,
    /// Whether more items exist.
    pub(super) is_cut: bool,
}

/// Reads a list until its end or the limit.
pub(super) async fn read(
    client: &mut Client,
    method: &MethodDescriptor,
    cursor: Cursor,
    items: &FieldDescriptor,
    mut request: DynamicMessage,
    limit: u32,
) -> Result<List, CliError> {
    let (mut all, mut unreachable) = (Vec::new(), Vec::new());
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    loop {
        let missing = u32::try_from(limit - all.len()).unwrap_or(PAGE_ITEMS_MAX);
        let size = i32::try_from(missing.min(PAGE_ITEMS_MAX)).unwrap_or(i32::MAX);
        request.set_field_by_name("page_size", Value::I32(size));
        let mut page = client.unary(method, request.clone()).await?;
        if let Some(Value::List(found)) = page.take_field(items) {
            all.extend(found);
        }
        if let Some(Value::List(found)) = page.take_field_by_name(UNREACHABLE) {
            for gateway in found {
                if !unreachable.contains(&gateway) {
                    unreachable.push(gateway);
                }
            }
        }
        let next = cursor.next(&page);
        // A page can be empty although more follow, but the list moves on.
        let stays = next.as_ref().is_some_and(|(field, value)| {
            request.get_field_by_name(field).is_some_and(|now| *now == *value)
        });
        if stays {
            return Err(CliError::Io("the server returned the same page twice".to_owned()));
        }
        let is_full = all.len() >= limit;
        if let Some((field, value)) = next.clone().filter(|_| !is_full) {
            request.set_field_by_name(field, value);
            continue;
        }
        let is_cut = next.is_some() || all.len() > limit;
        all.truncate(limit);
        page.set_field(items, Value::List(all));
        if !unreachable.is_empty() {
            page.set_field_by_name(UNREACHABLE, Value::List(unreachable));
        }
        return Ok(List { response: page, is_cut });
    }
}

/// Returns what is missing in a response, one gateway a line.
pub(super) fn missing(response: &DynamicMessage) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(list) = response.get_field_by_name(UNREACHABLE) {
        let gateways = list.as_list().unwrap_or_default().iter().filter_map(Value::as_message);
        lines.extend(gateways.map(|gateway| {
            let (name, why) = (text_at(gateway, "gateway"), text_at(gateway, "error"));
            format!("`{name}` did not answer: {why}")
        }));
    }
    let alone = response.get_field_by_name("gateway_unreachable");
    if alone.is_some_and(|alone| alone.as_bool() == Some(true)) {
        lines.push(format!("the gateway did not answer: {}", text_at(response, "gateway_error")));
    }
    lines
}

/// Returns how to continue a change of many objects that one call has not finished.
pub(super) fn continuation(response: &DynamicMessage) -> Option<String> {
    let more = response.get_field_by_name("more")?.as_bool()?;
    let next = response.get_field_by_name("next_after_delivery_id")?.as_i64()?;
    more.then(|| format!("more deliveries match: `--after-delivery-id {next}` continues"))
}

#[cfg(test)]
mod tests {
    use super::super::{fields, table};
    use super::*;
    use crate::cli::json;

    fn response(name: &str, text: &str) -> DynamicMessage {
        let pool = crate::pb::descriptors::OWN.pool();
        let message = pool.get_message_by_name(&format!("shoreguard.v1.{name}")).unwrap();
        json::parse(&message, text).unwrap()
    }

    #[test]
    fn every_list_has_items_and_a_line_with_columns() {
        for row in table::rows() {
            let method = fields::method(row).unwrap();
            if Cursor::of(&method).is_some() {
                assert!(items_field(row, &method).is_some(), "{}", row.command);
            }
        }
    }

    #[test]
    fn a_list_continues_with_its_token_or_position() {
        let page = response("ListGatewaysResponse", r#"{"next_page_token": "t"}"#);
        let next = Some(("page_token", Value::String("t".to_owned())));
        assert_eq!(Cursor::Token.next(&page), next);
        assert_eq!(Cursor::Token.next(&response("ListGatewaysResponse", "{}")), None);
        let page = response("ListEventsResponse", r#"{"next_after_sequence": 7, "more": true}"#);
        assert_eq!(Cursor::Sequence.next(&page), Some(("after_sequence", Value::I64(7))));
        let page = response("ListEventsResponse", r#"{"next_after_sequence": 7}"#);
        assert_eq!(Cursor::Sequence.next(&page), None);
    }

    #[test]
    fn a_change_of_many_objects_says_how_it_continues() {
        let part = response(
            "RedeliverWebhookResponse",
            r#"{"redelivered": 2, "more": true, "next_after_delivery_id": 7}"#,
        );
        let how = continuation(&part).unwrap();
        assert_eq!(how, "more deliveries match: `--after-delivery-id 7` continues");
        assert_eq!(continuation(&response("RedeliverWebhookResponse", "{}")), None);
        let page = r#"{"next_after_sequence": 7, "more": true}"#;
        assert_eq!(continuation(&response("ListEventsResponse", page)), None);
    }

    #[test]
    fn gateways_that_did_not_answer_are_named() {
        let list = response(
            "ListSandboxesResponse",
            r#"{"unreachable": [{"gateway": "prod-us", "error": "timed out"}]}"#,
        );
        assert_eq!(missing(&list), ["`prod-us` did not answer: timed out"]);
        let list = response(
            "ListSandboxTemplatesResponse",
            r#"{"gateway_unreachable": true, "gateway_error": "timed out"}"#,
        );
        assert_eq!(missing(&list), ["the gateway did not answer: timed out"]);
        assert!(missing(&response("ListGatewaysResponse", "{}")).is_empty());
    }
}
