//! `docs/audit.md` lists every audit action and every event, and nothing else.

use shoreguard::access::action::Action;
use shoreguard::outbox::event_types::{ALL, Audience, FORMER};

use super::read_file;

/// Returns the cells of the rows of the table with this first column.
fn table(first_column: &str) -> Vec<Vec<String>> {
    let text = read_file("docs/audit.md").text;
    let table = text.split(&format!("| {first_column} |")).nth(1).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
    rows.map(|row| row.trim_matches('|').split('|').map(cell).collect()).collect()
}

#[test]
fn the_documents_list_every_audit_action() {
    let listed: Vec<String> = table("action").into_iter().map(|row| row[0].clone()).collect();
    let actions: Vec<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
    assert_eq!(listed, actions);
}

#[test]
fn the_documents_list_every_event_with_its_minimum_role_and_former_name() {
    let former = |name: &str| {
        let of_type = FORMER.iter().find(|(_, event_type)| event_type.name() == name);
        of_type.map_or(String::new(), |(former, _)| (*former).to_owned())
    };
    let events: Vec<Vec<String>> = ALL
        .iter()
        .map(|(event_type, what)| {
            let least = match event_type.audience() {
                Audience::Gateway(role) => role.to_string(),
                Audience::GlobalAdmins => "global admin".to_owned(),
            };
            let name = event_type.name().to_owned();
            vec![name.clone(), least, (*what).to_owned(), former(&name)]
        })
        .collect();
    assert_eq!(table("event"), events);
}
